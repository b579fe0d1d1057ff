"""``koinon federation releases | rollback``: which releases there are, and which of them no longer count."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

__all__ = ["releases", "rollback"]

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The federation's folder, or a run's output folder.")]


def releases(
    folder: Folder,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the releases: learner, when, how many took part, their validation figures, whether it was withdrawn."""
    from koinon.server.place import Place

    with Place.find(folder).books() as (_, book):
        listed = book.releases()
    if as_json:
        rows = [
            {
                **release.manifest.model_dump(mode="json", exclude={"tensors", "info"}, exclude_none=True),
                "sha256": release.sha256,
                "withdrawn": release.withdrawn,
                "folder": str(release.folder),
            }
            for release in listed
        ]
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    if not listed:
        typer.echo("Nothing was released yet.")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None)
    for column in ("release", "learner", "time (UTC)", "round", "partners", "validation", ""):
        table.add_column(column, justify="right" if column in {"release", "round", "partners"} else "left")
    for release in listed:
        said = release.manifest
        figures = ", ".join(f"{name} {value:.4f}" for name, value in sorted(said.metrics.items()))
        when = said.time.replace("T", " ").removesuffix("Z")
        standing = "withdrawn" if release.withdrawn else ""
        table.add_row(str(said.number), said.learner, when, str(said.round), str(said.participants), figures, standing)
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 160
    console.print(table)


def rollback(
    folder: Folder,
    learner: Annotated[str, typer.Argument(metavar="LEARNER", help="Whose newest release is withdrawn.")],
    reason: Annotated[
        Literal["operator", "policy", "key", "anomaly", "harm", "request"],
        typer.Option("--reason", help="Why, for the record."),
    ] = "operator",
) -> None:
    """Withdraw a learner's newest release that still counts; the ledger says so, and no partner adopts it any more."""
    from koinon.server.place import Place

    with Place.find(folder).books() as (_, book):
        withdrawn, counts = book.withdraw(learner, reason)
    typer.echo(
        f"Release {withdrawn.manifest.number} of {learner} is withdrawn. "
        + (f"Release {counts.manifest.number} counts again." if counts else "No release of it counts now.")
    )
