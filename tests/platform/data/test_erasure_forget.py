"""Who is forgotten is gone from the vault and from all that was derived from it, and does not come back."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from koinon.data import Vault
from koinon.data.erasure import Tombstones, forget
from koinon.errors import DataError

Shop = Callable[..., Path]
SECRET = "kunde-4711-müller"
SOURCES = {"items.csv", "events.csv", "users.csv", "partner.toml"}


def _with_secret(shop: Shop) -> Path:
    folder = shop(
        more_events=f"{SECRET},b1,2024-05-01 10:00:00,5\n{SECRET},b77,2024-05-01 10:00:00,5\n{SECRET},b3\n",
        more_users=f"{SECRET},d,99\n{SECRET},d,98\n",
    )
    Vault.ingest(folder)
    return folder


def _mentions(folder: Path, person: str) -> list[str]:
    """Files of a partner's folder, sources aside, that hold an id in any table cell or in their bytes."""
    found = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.name in SOURCES:
            continue
        text = path.read_bytes().decode("utf-8", "replace")
        if path.suffix == ".parquet":
            text += str(pl.read_parquet(path).to_dicts())
        if person in text:
            found.append(path.name)
    return found


def test_nothing_but_the_sources_names_a_forgotten_person(shop: Shop) -> None:
    folder = _with_secret(shop)
    assert len(_mentions(folder, SECRET)) == 3
    receipt = forget(folder, SECRET)
    assert _mentions(folder, SECRET) == []
    assert receipt.rows == {"events": 1, "users": 1, "quarantine": 2}
    assert receipt.vault_before != receipt.vault_after == Vault(folder).fingerprint()
    assert receipt.sources == ["events.csv", "users.csv"]


def test_everyone_else_stays(shop: Shop) -> None:
    folder = _with_secret(shop)
    forget(folder, SECRET)
    tables = Vault(folder).tables()
    assert tables.events.height == 5
    assert tables.users["user_id"].to_list() == ["k1", "k2", "k3"]
    assert tables.items.height == 4


def test_reading_the_sources_again_does_not_bring_the_person_back(shop: Shop) -> None:
    folder = _with_secret(shop)
    forget(folder, SECRET)
    assert not Vault(folder).needs_ingest()
    report = Vault.ingest(folder)
    assert _mentions(folder, SECRET) == []
    assert report.tables["events"].forgotten == 2
    assert report.tables["users"].forgotten == 2


def test_a_vault_written_by_a_program_leaves_the_person_out_too(shop: Shop) -> None:
    folder = _with_secret(shop)
    tables = Vault(folder).tables()
    forget(folder, SECRET)
    vault = Vault.create(folder, Vault(folder).config, tables)
    assert SECRET not in vault.tables().events["user_id"]
    assert SECRET not in vault.tables().users["user_id"]


def test_models_and_run_states_that_learned_from_the_person_are_removed(shop: Shop) -> None:
    folder = _with_secret(shop)
    for name in (
        "models/federated/user.npy",
        "cache/domain.bin",
        "written/ab/ab12.json",
        "federation/runs/1/state.pt",
        "federation/errors.log",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(SECRET)
    (folder / "federation" / "egress.jsonl").write_text("{}")
    receipt = forget(folder, SECRET)
    assert receipt.refit_needed
    assert receipt.removed == ["models", "cache", "written", "federation/runs", "federation/errors.log"]
    assert _mentions(folder, SECRET) == []
    assert (folder / "federation" / "egress.jsonl").exists()


def test_the_receipt_is_kept_and_names_the_person_by_keyed_hash_only(shop: Shop) -> None:
    folder = _with_secret(shop)
    receipt = forget(folder, SECRET, now=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    [written] = (folder / "erasure").glob("receipt-20260102T030405*.json")
    assert json.loads(written.read_text()) == receipt.to_dict()
    assert receipt.people == [Tombstones(folder).hash(SECRET)]
    assert stat.S_IMODE((folder / "erasure" / "key").stat().st_mode) == 0o600


def test_two_partners_hash_the_same_person_differently(shop: Shop, tmp_path: Path) -> None:
    assert Tombstones(tmp_path / "a").hash(SECRET) != Tombstones(tmp_path / "b").hash(SECRET)


def test_a_misspelt_id_is_an_error_and_can_be_insisted_on(shop: Shop) -> None:
    folder = _with_secret(shop)
    with pytest.raises(DataError, match="K225"):
        forget(folder, "k77")
    assert not (folder / "erasure").exists()
    assert forget(folder, "k77", absent_ok=True).rows == {"events": 0, "users": 0, "quarantine": 0}
    assert "k77" in Tombstones(folder)


def test_forgetting_twice_is_no_error(shop: Shop) -> None:
    folder = _with_secret(shop)
    forget(folder, SECRET)
    assert forget(folder, SECRET).rows == {"events": 0, "users": 0, "quarantine": 0}


def test_a_damaged_list_of_the_forgotten_stops_every_ingest(shop: Shop) -> None:
    folder = _with_secret(shop)
    forget(folder, SECRET)
    (folder / "erasure" / "key").unlink()
    with pytest.raises(DataError, match="K226"):
        Vault.ingest(folder)


CONSENT = ('age = "alter"', 'consent = "alter"')


def test_only_people_who_said_yes_are_kept_where_consent_is_declared(shop: Shop) -> None:
    users = "kunde,geschlecht,alter\nk1,f,ja\nk2,m,nein\nk3,f,\nk4,f,yes\nk4,f,no\n"
    folder = shop(
        users=users, more_events="k4,b1,2024-05-01 10:00:00,5\nk5,b1,2024-05-01 10:00:00,5\nk2,b77,,\n", edit=CONSENT
    )
    report = Vault.ingest(folder)
    tables = Vault(folder).tables()
    assert set(tables.events["user_id"]) == {"k1"}
    assert tables.users.rows() == [("k1", "f")]
    assert report.tables["events"].withdrawn == 6
    assert Vault(folder).quarantine().is_empty()


def test_a_withdrawn_consent_removes_what_was_derived_and_leaves_a_receipt(shop: Shop) -> None:
    folder = shop(users="kunde,geschlecht,alter\nk1,f,1\nk2,m,1\nk3,f,1\n", edit=CONSENT)
    Vault.ingest(folder)
    (folder / "models").mkdir()
    assert not (folder / "erasure").exists()
    (folder / "users.csv").write_text("kunde,geschlecht,alter\nk1,f,1\nk2,m,0\nk3,f,1\n")
    Vault.ingest(folder)
    [written] = (folder / "erasure").glob("receipt-*.json")
    receipt = json.loads(written.read_text())
    assert receipt["reason"] == "consent withdrawn"
    assert receipt["people"] == [Tombstones(folder).hash("k2")]
    assert receipt["rows"] == {"events": 2, "users": 1, "quarantine": 0}
    assert receipt["refit_needed"]
    assert not (folder / "models").exists()
    assert "k2" not in Vault(folder).tables().events["user_id"]


def test_a_consent_given_again_is_honoured(shop: Shop) -> None:
    folder = shop(users="kunde,geschlecht,alter\nk1,f,1\nk2,m,0\n", edit=CONSENT)
    Vault.ingest(folder)
    (folder / "users.csv").write_text("kunde,geschlecht,alter\nk1,f,1\nk2,m,1\n")
    Vault.ingest(folder)
    assert "k2" in Vault(folder).tables().events["user_id"]
