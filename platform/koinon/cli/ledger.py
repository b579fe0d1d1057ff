"""``koinon ledger``: verify, show and export a federation's ledger, or a partner's copy of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from koinon.privacy.ledger import Entry
    from koinon.privacy.signing import Verifier

app = typer.Typer(help="Verify, show and export a federation's ledger.", no_args_is_help=True)

Ledger = Annotated[
    str,
    typer.Argument(
        metavar="LEDGER", help="A federation's, a run's or a partner's folder, an export, a database file or its URL."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def _group() -> None:
    """Verify, show and export a federation's ledger."""


@app.command()
def verify(
    ledger: Ledger,
    key: Annotated[
        str, typer.Option(help="The server's public key: base64, or a file that holds it. Default: as the ledger says.")
    ] = "",
    against: Annotated[
        Path | None, typer.Option(help="A copy that somebody else has kept, or a single entry of it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find any edit, removal, insertion or reordering, and say which entry.

    That the last entries are missing, or that the server tells two histories, shows only against somebody else's copy.
    """
    from koinon.errors import FederationError
    from koinon.privacy.ledger import read_lines
    from koinon.privacy.ledger import verify as verified

    with _read(ledger) as entries:
        verifier, rest = _key(key, entries)
        findings = verified(rest, verifier, against=read_lines(against) if against else ())
    if as_json:
        head = json.loads(findings.head.line()) if findings.head else None
        faults = [asdict(fault) for fault in findings.faults]
        said = {"whole": findings.whole, "entries": findings.entries, "key": verifier.key, "key_given": bool(key)}
        typer.echo(json.dumps({**said, "head": head, "faults": faults}, indent=2, ensure_ascii=False))
    else:
        for fault in findings.faults:
            typer.echo(f"{fault.what}: {fault.message}")
        if findings.whole:
            typer.echo(f"{findings.entries} entries, whole" + (", and in line with the copy." if against else "."))
            if findings.head:
                typer.echo(f"last: {findings.head.sequence}  {findings.head.time}  {findings.head.hash}")
            typer.echo(f"key:  {verifier.key}" + ("" if key else "  (as the ledger itself says: compare it, --key)"))
    if not findings.whole:
        first = findings.faults[0].message
        more = f" {len(findings.faults) - 1} more." if len(findings.faults) > 1 else ""
        raise FederationError(
            "K781",
            f"The ledger is not whole. {first}{more}",
            "Compare with other copies; restore the last good backup.",
        )


@app.command()
def show(
    ledger: Ledger,
    kind: Annotated[str, typer.Option(help="Only entries of this kind, e.g. release_published.")] = "",
    subject: Annotated[str, typer.Option(help="Only entries about this partner, learner or federation.")] = "",
    last: Annotated[int, typer.Option("--last", "-n", min=1, help="Only so many, the newest.")] = 1_000_000_000,
    as_json: AsJson = False,
) -> None:
    """Show what is on record (without verifying it)."""
    from collections import deque

    with _read(ledger) as entries:
        wanted = (e for e in _sound(entries) if (not kind or e.kind == kind) and (not subject or e.subject == subject))
        chosen: Iterable[Entry] = deque(wanted, maxlen=last)
        for entry in chosen:
            if as_json:
                typer.echo(entry.line().decode())
                continue
            said = "  ".join(f"{name} {_short(value)}" for name, value in sorted(entry.body.items()))
            typer.echo(f"{entry.sequence:>6}  {entry.time}  {entry.kind:<20} {entry.subject:<24} {said}".rstrip())


@app.command()
def export(
    ledger: Ledger,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to: one entry a line.")],
) -> None:
    """Write a copy that anybody can verify without the database."""
    from koinon.config import atomic_path

    count = 0
    with _read(ledger) as entries, atomic_path(file) as half, half.open("wb") as target:
        for entry in _sound(entries):
            target.write(entry.line() + b"\n")
            count += 1
    typer.echo(f"{count} entries in {file}.")


@contextmanager
def _read(ledger: str) -> Iterator[Iterator[Entry | ValueError]]:
    """The entries as they lie there, in a database or in a file."""
    from koinon.privacy.ledger import read_lines

    path = Path(ledger)
    copy = path / "federation" / "ledger.jsonl"
    if "://" not in ledger and copy.is_file():
        path = copy
    if "://" not in ledger and not path.is_dir() and not _sqlite(path):
        yield read_lines(path)
        return
    from koinon.server.place import Place
    from koinon.server.state import open_store, read_book

    database = Place.find(path).database if "://" not in ledger and path.is_dir() else ledger
    store = open_store(database, create=False)
    try:
        yield read_book(store)
    finally:
        store.close()


def _sqlite(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(16) == b"SQLite format 3\0"
    except OSError:
        return False


def _key(given: str, entries: Iterator[Entry | ValueError]) -> tuple[Verifier, Iterator[Entry | ValueError]]:
    """The key to verify with, and the entries from the first on."""
    from itertools import chain

    from koinon.errors import FederationError
    from koinon.privacy.signing import Verifier

    if given:
        return (Verifier.read(Path(given)) if Path(given).is_file() else Verifier(given)), entries
    first = next(entries, None)
    said = None if first is None or isinstance(first, ValueError) else first.body.get("key")
    if first is None or not isinstance(said, str):
        raise FederationError(
            "K781", "The ledger does not begin with the entry that names its key.", "Give the server's key: `--key`."
        )
    return Verifier(said), chain([first], entries)


def _sound(entries: Iterable[Entry | ValueError]) -> Iterator[Entry]:
    from koinon.errors import FederationError

    for position, entry in enumerate(entries, start=1):
        if isinstance(entry, ValueError):
            raise FederationError(
                "K781", f"Entry {position} cannot be read: {entry}.", "`koinon ledger verify` says what is wrong."
            )
        yield entry


def _short(value: object) -> str:
    said = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return said[:12] + "…" if len(said) == 64 else said
