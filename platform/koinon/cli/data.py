"""``koinon data``: list and fetch public data sets, import well-known formats."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from koinon.data.public import Progress
    from koinon.data.tables import Tables

__all__ = ["app"]

app = typer.Typer(
    help="List and fetch public data sets; import well-known formats.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

_Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
_Cache = Annotated[
    Path | None,
    typer.Option("--cache-dir", help="Keep data sets here instead of the user's cache folder.", file_okay=False),
]


@app.command("list", epilog="Example: koinon data list --json")
def list_(as_json: _Json = False) -> None:
    """List the public data sets, their licences and sizes, and the formats that can be imported."""
    from koinon.data.importers import IMPORTERS
    from koinon.data.public import list_datasets

    datasets = list_datasets()
    if as_json:
        _print_json(
            {
                "datasets": [
                    {
                        "name": dataset.name,
                        "title": dataset.title,
                        "description": dataset.description,
                        "download_bytes": dataset.download_size,
                        "sha256": dataset.sha256,
                        "licence": dataset.licence,
                        "citation": dataset.citation,
                        "homepage": dataset.homepage,
                        "timestamps": dataset.timestamps,
                        "attributes": list(dataset.attributes),
                    }
                    for dataset in datasets
                ],
                "formats": [
                    {"name": i.name, "title": i.title, "expects": i.expects, "options": list(i.options)}
                    for i in IMPORTERS.values()
                ],
            }
        )
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "what it is", "download", "times", "people", title="Public data sets", title_justify="left")
    for dataset in datasets:
        table.add_row(
            dataset.name,
            dataset.description if dataset.base else f"{dataset.title}. {dataset.description}",
            f"{dataset.download_size / 1e6:.0f} MB",
            "yes" if dataset.timestamps else "no",
            ", ".join(dataset.attributes),
        )
    formats = Table("format", "of", "files", title="Formats for `koinon data import`", title_justify="left")
    for importer in IMPORTERS.values():
        formats.add_row(importer.name, importer.title, importer.expects)
    console = Console()
    console.print(table)
    console.print(formats)


@app.command("get", epilog="Example: koinon data get ml-1m-drama --out partners/drama")
def get_(
    name: Annotated[str, typer.Argument(help="A name that `koinon data list` shows.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Also write a partner's folder here.", file_okay=False)
    ] = None,
    cache_dir: _Cache = None,
    as_json: _Json = False,
) -> None:
    """Fetch a public data set into the cache (resumes, verifies its checksum), or say what is there."""
    from koinon.data.public import find_dataset, get

    dataset = find_dataset(name)
    with _download_progress() as progress:
        tables = get(name, cache_dir, progress)
    summary: dict[str, Any] = {"name": name, **_counts(tables)}
    if out is not None:
        summary["out"] = str(_write_partner(out, name, tables, catalogue="public"))
    summary |= {"licence": dataset.licence, "citation": dataset.citation}
    _print_summary(summary, as_json)


@app.command(
    "import", epilog="Example: koinon data import amazon-2023 downloads/ --out partners/books --set category=Books"
)
def import_(
    format_: Annotated[str, typer.Argument(metavar="FORMAT", help="A format that `koinon data list` shows.")],
    path: Annotated[Path, typer.Argument(help="The folder (or file) as its publisher packs it.")],
    out: Annotated[Path, typer.Option("--out", help="The partner's folder to write.", file_okay=False)],
    name: Annotated[str | None, typer.Option("--name", help="The partner's name; by default the folder's.")] = None,
    options: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="An option of the format; may be repeated.")
    ] = None,
    as_json: _Json = False,
) -> None:
    """Import data in a well-known format and write a partner's folder from it."""
    from koinon.data.importers import read

    chosen = dict(_key_and_value(option) for option in options or [])
    notes: list[str] = []
    tables = read(format_, path, note=notes.append, **chosen)
    folder = _write_partner(out, name or out.resolve().name, tables, catalogue="secret")
    _print_summary({"name": folder.name, **_counts(tables), "out": str(folder), "notes": notes}, as_json)


def _key_and_value(option: str) -> tuple[str, str]:
    key, separator, value = option.partition("=")
    if not separator or key == "note":
        raise typer.BadParameter(f"`{option}` is not KEY=VALUE", param_hint="--set")
    return key.replace("-", "_"), value


def _counts(tables: Tables) -> dict[str, int]:
    return {"items": tables.items.height, "events": tables.events.height, "users": tables.users.height}


def _write_partner(out: Path, name: str, tables: Tables, *, catalogue: Literal["public", "secret"]) -> Path:
    """Write a partner's folder; a folder with anything else in it is left alone."""
    import re

    from koinon.data.importers.common import UNDETERMINED
    from koinon.data.partner import PARTNER_FILE, PartnerConfig, UserPolicy
    from koinon.data.vault import Vault
    from koinon.errors import DataError

    if out.exists() and any(out.iterdir()):
        ours = (out / PARTNER_FILE).is_file() and PartnerConfig.load(out).sources.items is None
        if not ours:
            raise DataError(
                "K244", f"{out} is not empty.", "Choose a new folder, or one that this command has written."
            )
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63].strip("-") or "partner"
    languages = tables.items["language"].value_counts(sort=True)["language"].to_list()
    config = PartnerConfig(
        name=slug,
        language=next((language for language in languages if language != UNDETERMINED), "en"),
        catalogue=catalogue,
        users=UserPolicy(attributes=tuple(column for column in tables.users.columns if column != "user_id")),
    )
    Vault.create(out, config, tables)
    return out


def _print_summary(summary: dict[str, Any], as_json: bool) -> None:
    if as_json:
        _print_json(summary)
        return
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"[bold]{summary['name']}[/]: {summary['items']:,} items, {summary['events']:,} events, "
        f"{summary['users']:,} users"
    )
    for note in summary.get("notes", ()):
        console.print(f"note: {note}", markup=False)
    for key, label in (("licence", "Terms"), ("citation", "Cite")):
        if key in summary:
            console.print(f"{label}: {summary[key]}", markup=False)
    if "out" in summary:
        console.print(f"Partner's folder: {summary['out']} (next: koinon partner check {summary['out']})", markup=False)


def _print_json(content: dict[str, Any]) -> None:
    print(json.dumps(content, ensure_ascii=False, indent=2))


@contextmanager
def _download_progress() -> Iterator[Progress]:
    """A bar on a terminal; elsewhere a line for every file that is whole."""
    if not sys.stderr.isatty():

        def say(what: str, done: int, total: int) -> None:
            if done >= total:
                print(f"fetched {what} ({total / 1e6:.0f} MB)", file=sys.stderr)

        yield say
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, Any] = {}

        def advance(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done)

        yield advance
