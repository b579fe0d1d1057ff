"""The account: charged before anything is told, never less than what was told, and it does not go on when damaged."""

import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from koinon.errors import PrivacyError
from koinon.privacy.budget import ACCOUNT_FILE, Account, Event, PrivacyConfig, spent

PRIVACY = PrivacyConfig(epsilon=1.0, delta=1e-6, people=1000, partners=1)
THIRD = (Event("gaussian", 7.5),)  # three of them fit into the budget


def charge(account, key="run/gram/1", events=THIRD):
    return account.charge(PRIVACY, key, "gram round 1", events, {"counts": 3.0})


def test_a_restart_goes_on_with_the_account(tmp_path):
    first = charge(Account(tmp_path))
    second = charge(Account(tmp_path), "run/gram/2")
    account = Account(tmp_path)
    assert account.charges == (first, second)
    assert second.before == first.hash
    assert account.find("run/gram/1") == first
    assert account.find("run/gram/3") is None
    assert account.spent(1e-6) == spent([*THIRD, *THIRD], 1e-6)


def test_it_stops_before_the_budget_is_passed_and_charges_nothing(tmp_path):
    account = Account(tmp_path)
    while account.spent(1e-6) + 0.3 < 1:
        charge(account)
    before = (tmp_path / ACCOUNT_FILE).read_bytes()
    with pytest.raises(PrivacyError, match="K670"):
        charge(account, events=(Event("gaussian", 1.0),))
    with pytest.raises(PrivacyError, match="K670"):
        Account(tmp_path).charge(PRIVACY, "k", "audit", (Event("gaussian", 1.0),), {})
    assert (tmp_path / ACCOUNT_FILE).read_bytes() == before
    assert account.spent(1e-6) <= 1.0


def test_rounds_and_audits_share_one_account(tmp_path):
    account = Account(tmp_path)
    charge(account)
    account.charge(PRIVACY, "audit/2026", "audit of 2026", (Event("zcdp", 0.001),), {"groups": 2.0})
    assert account.spent(1e-6) == spent([*THIRD, Event("zcdp", 0.001)], 1e-6)
    assert account.charges[-1].named() == {"number": 2, "purpose": "audit of 2026", "hash": account.charges[-1].hash}


def edits():
    def value(said):
        said["charges"][0]["events"][0]["value"] *= 2

    def noise(said):
        said["charges"][1]["noise"]["counts"] = 30.0

    def drop(said):
        del said["charges"][0]

    def swap(said):
        said["charges"].reverse()

    def free(said):
        said["charges"][0]["events"][0]["value"] = 0.0

    def version(said):
        said["version"] = 2

    return [value, noise, drop, swap, free, version]


@pytest.mark.parametrize("edit", edits(), ids=lambda edit: edit.__name__)
def test_an_edited_account_is_refused(tmp_path, edit):
    account = Account(tmp_path)
    charge(account)
    charge(account, "run/gram/2")
    said = json.loads((tmp_path / ACCOUNT_FILE).read_text())
    edit(said)
    (tmp_path / ACCOUNT_FILE).write_text(json.dumps(said))
    with pytest.raises(PrivacyError, match="K671"):
        Account(tmp_path)
    with pytest.raises(PrivacyError, match="K671"):
        charge(account, "run/gram/3")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"version": 1}'])
def test_a_damaged_account_is_refused(tmp_path, content):
    charge(Account(tmp_path))
    (tmp_path / ACCOUNT_FILE).write_bytes(content)
    with pytest.raises(PrivacyError, match="K671"):
        Account(tmp_path)


def test_a_rolled_back_or_removed_account_is_refused_once_something_left_under_it(tmp_path):
    charge(Account(tmp_path))
    old = (tmp_path / ACCOUNT_FILE).read_bytes()
    left = charge(Account(tmp_path), "run/gram/2")
    assert Account(tmp_path, witness=left.hash).charges[-1] == left
    (tmp_path / ACCOUNT_FILE).write_bytes(old)
    with pytest.raises(PrivacyError, match="K672"):
        Account(tmp_path, witness=left.hash)
    (tmp_path / ACCOUNT_FILE).unlink()
    with pytest.raises(PrivacyError, match="K672"):
        Account(tmp_path, witness=left.hash)


def test_several_processes_charge_one_after_the_other(tmp_path):
    code = (
        "import sys; from pathlib import Path; from koinon.privacy.budget import *\n"
        "p = PrivacyConfig(epsilon=1.0, delta=1e-6, people=1000, partners=1)\n"
        "for k in range(5):\n"
        "    Account(Path(sys.argv[1])).charge(p, f'{sys.argv[2]}/{k}', 'x', (Event('gaussian', 50.0),), {})"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name]) for name in ("a", "b")]
    assert [process.wait() for process in running] == [0, 0]
    charges = Account(tmp_path).charges
    assert sorted(charge.key for charge in charges) == sorted(f"{name}/{k}" for name in "ab" for k in range(5))


KILLED = """
import sys
from pathlib import Path
from koinon.privacy.budget import Account, Event, PrivacyConfig
folder = Path(sys.argv[1])
privacy = PrivacyConfig(epsilon=1e6, delta=1e-6, people=1000, partners=1)
for number in range(10**6):
    charge = Account(folder).charge(privacy, f"run/gram/{number}", "x", (Event("gaussian", 50.0),), {})
    with (folder / "told").open("a") as told:
        told.write(charge.hash + "\\n")
    print(number, flush=True)
"""


def test_a_killed_partner_has_told_nothing_that_it_has_not_charged(tmp_path):
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        killer = threading.Timer(0.15, os.kill, (process.pid, signal.SIGKILL))
        process.stdout.readline()
        killer.start()
        process.wait()
        process.stdout.close()
    charged = {charge.hash for charge in Account(tmp_path).charges}
    told = (tmp_path / "told").read_text().splitlines()
    assert len(told) >= 3
    assert set(told) <= charged
