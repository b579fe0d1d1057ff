"""``koinon federation backup | restore``: all that a server must not lose, in one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["backup", "restore"]

File = Annotated[Path, typer.Argument(metavar="FILE", help="The backup.")]


def backup(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The federation's folder, or a run's output folder.")],
    file: File,
) -> None:
    """Write state, releases, policy, certificate authority and keys into one file; the federation may go on meanwhile.

    Whoever has the file has the federation's keys.
    """
    from koinon.server.state.backup import back_up

    made = back_up(folder, file)
    typer.echo(f"{file}: {made.federation}, {len(made.files)} files, ledger of {made.entries} entries.")
    typer.echo("It holds the federation's private keys: keep it as you keep them.", err=True)


def restore(
    file: File,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to: a new folder.")],
    state: Annotated[
        str, typer.Option(help="URL of an empty database. Default: where it was, or a file in the folder.")
    ] = "",
    ledger: Annotated[
        Path | None, typer.Option(help="A partner's copy of the ledger: brings back entries made after the backup.")
    ] = None,
) -> None:
    """Put a backup back into a new folder, whole or not at all."""
    from koinon.server.state.backup import restore as put_back

    made = put_back(file, folder, database=state, copy=ledger)
    typer.echo(f"{made.federation} as of {made.created} is in {folder}; its ledger is whole.")
    if ledger is None:
        typer.echo(
            "If entries were made since, partners refuse the shorter ledger (K778): restore with `--ledger` and the"
            " newest partner's federation/ledger.jsonl.",
            err=True,
        )
