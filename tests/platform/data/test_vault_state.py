"""The vault is replaced whole or not at all, whatever interrupts it."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from koinon.data import PartnerConfig, Tables, Vault
from koinon.data.partner import UserPolicy
from koinon.data.tables import EVENT_SCHEMA, ITEM_SCHEMA
from koinon.errors import DataError, KoinonError, ResourceError

Shop = Callable[..., Path]


def _tables(people: int = 3) -> Tables:
    items = pl.DataFrame(
        {
            "item_id": ["a", "b"],
            "title": ["A", "B"],
            "creator": [None, "x"],
            "description": [None, None],
            "language": ["de", "en"],
            "categories": [["k"], []],
            "price": [1.0, None],
            "text": ["A", "B. x"],
        },
        schema=ITEM_SCHEMA,
    )
    users = [f"u{number}" for number in range(people)]
    events = pl.DataFrame(
        {
            "user_id": users * 2,
            "item_id": ["b"] * people + ["a"] * people,
            "timestamp": [datetime(2024, 1, 2, tzinfo=UTC)] * people + [datetime(2024, 1, 1, tzinfo=UTC)] * people,
            "kind": ["event"] * 2 * people,
            "weight": [1.0] * 2 * people,
        },
        schema=EVENT_SCHEMA,
    )
    return Tables(items, events, pl.DataFrame({"user_id": users, "age": list(range(people))}))


CONFIG = PartnerConfig(name="shop", users=UserPolicy(attributes=("age",), sensitive=("age",)))


def _state(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "vault").iterdir()) if path.name != ".lock"}


def test_a_program_can_write_a_partner_and_gets_back_what_it_wrote(tmp_path: Path) -> None:
    vault = Vault.create(tmp_path / "shop", CONFIG, _tables())
    tables = Vault.open(tmp_path / "shop").tables()
    assert vault.name == "shop"
    assert vault.config == CONFIG
    assert tables.items.equals(_tables().items)
    assert tables.users.equals(_tables().users)
    assert tables.events.select("user_id", "item_id").rows()[:2] == [("u0", "a"), ("u0", "b")]
    assert vault.quarantine().is_empty()


def test_the_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    first = Vault.create(tmp_path / "one", CONFIG, _tables()).fingerprint()
    assert Vault.create(tmp_path / "two", CONFIG, _tables()).fingerprint() == first
    assert Vault.create(tmp_path / "two", CONFIG, _tables(people=4)).fingerprint() != first
    assert len(list((tmp_path / "two" / "vault").glob("*.parquet"))) == 4


@pytest.mark.parametrize(
    "broken",
    [
        lambda t: Tables(t.items.drop("price"), t.events, t.users),
        lambda t: Tables(pl.concat([t.items, t.items]), t.events, t.users),
        lambda t: Tables(t.items, t.events, pl.concat([t.users, t.users])),
        lambda t: Tables(t.items.head(1), t.events, t.users),
        lambda t: Tables(t.items, t.events.with_columns(user_id=pl.lit(None, pl.String)), t.users),
        lambda t: Tables(t.items, t.events, t.users.drop("user_id")),
    ],
)
def test_tables_that_are_not_canonical_are_refused(tmp_path: Path, broken: Callable[[Tables], Tables]) -> None:
    with pytest.raises(DataError, match="K208"):
        Vault.create(tmp_path / "shop", CONFIG, broken(_tables()))
    assert not (tmp_path / "shop" / "vault").exists()


def test_a_partner_without_a_vault_is_told_what_to_run(shop: Shop) -> None:
    with pytest.raises(DataError, match=r"K209.*koinon partner check"):
        Vault(shop()).tables()


def test_a_damaged_file_is_noticed(tmp_path: Path) -> None:
    vault = Vault.create(tmp_path / "shop", CONFIG, _tables())
    [events] = vault.folder.glob("events-*.parquet")
    content = bytearray(events.read_bytes())
    content[len(content) // 2] ^= 1
    events.write_bytes(content)
    with pytest.raises(DataError, match=r"K209.*damaged"):
        vault.tables()


def test_open_reads_the_sources_only_when_something_changed(shop: Shop) -> None:
    folder = shop()
    first = Vault.open(folder).fingerprint()
    assert not Vault(folder).needs_ingest()
    with (folder / "events.csv").open("a") as events:
        events.write("k3,b3,2024-08-01 12:00:00,1\n")
    assert Vault(folder).needs_ingest()
    assert Vault.open(folder).fingerprint() != first
    (folder / "partner.toml").write_text((folder / "partner.toml").read_text().replace("Europe/Berlin", "UTC"))
    assert Vault(folder).needs_ingest()


@pytest.mark.parametrize("stage", ["reading items", "reading events", "checking events", "writing the vault"])
def test_ctrl_c_leaves_the_old_vault_as_it_was(shop: Shop, stage: str) -> None:
    folder = shop()
    Vault.ingest(folder)
    before = _state(folder)
    shop(more_events="k3,b3,2024-08-01 12:00:00,1\n")

    def interrupt(what: str, _share: float) -> None:
        if what == stage:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        Vault.ingest(folder, progress=interrupt)
    assert _state(folder) == before
    assert Vault.open(folder).tables().events.height == 6


def test_a_disk_that_takes_no_more_leaves_the_old_vault_as_it_was(shop: Shop) -> None:
    folder = shop()
    Vault.ingest(folder)
    before = _state(folder)
    shop(more_events="".join(f"k1,b{n % 4 + 1},2024-01-01 00:00:{n % 60:02d}.{n:06d},{n}\n" for n in range(20_000)))
    script = textwrap.dedent(f"""
        import resource, sys
        from koinon.data import Vault
        from koinon.errors import KoinonError
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
        try:
            Vault.ingest({str(folder)!r})
        except KoinonError as error:
            sys.exit(error.code)
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr.strip() == "K801"
    assert _state(folder) == before
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_only_one_process_writes_a_vault(shop: Shop) -> None:
    folder = shop()
    Vault.ingest(folder)
    with (folder / "vault" / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ResourceError, match="K802"):
            Vault.ingest(folder)
    Vault.ingest(folder)


def test_open_waits_for_the_process_that_is_reading(shop: Shop) -> None:
    folder = shop()
    script = "import sys; from koinon.data import Vault; print(Vault.open(sys.argv[1]).fingerprint())"
    both = [
        subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    results = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], results
    assert results[0][0] == results[1][0]


def test_what_an_interruption_left_behind_is_swept_away(shop: Shop) -> None:
    folder = shop()
    Vault.ingest(folder)
    (folder / "vault" / "events-0123456789abcdef.parquet").write_bytes(b"half-written")
    Vault.ingest(folder)
    assert len(list((folder / "vault").glob("*.parquet"))) == 4


def test_a_source_that_vanished_is_named_and_the_old_vault_stays(shop: Shop) -> None:
    folder = shop()
    Vault.ingest(folder)
    before = _state(folder)
    (folder / "events.csv").unlink()
    with pytest.raises(KoinonError, match="K200"):
        Vault.open(folder)
    assert _state(folder) == before
