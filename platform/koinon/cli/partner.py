"""``koinon partner``: set up a partner's folder, check its data, join a federation, forget a person."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from koinon.cli import partner_join, partner_privacy

app = typer.Typer(
    help="Set up a partner's folder, check its data, join a federation, forget a person.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

_Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The partner's folder.")]


@app.command(epilog="Example: koinon partner init shop --items items.csv --events orders.csv --users customers.csv")
def init(
    folder: _Folder,
    items: Annotated[str, typer.Option(help="Catalogue: a file, or a database as sqlite:///shop.db#products.")],
    events: Annotated[str, typer.Option(help="Events: a file, or a database as postgresql://user@host/db#orders.")],
    users: Annotated[str | None, typer.Option(help="Users, with the attributes that are declared.")] = None,
    name: Annotated[str | None, typer.Option(help="The partner's name; otherwise the folder's.")] = None,
    language: Annotated[str | None, typer.Option(help="ISO 639-1 code of the texts; otherwise guessed.")] = None,
    time_zone: Annotated[str, typer.Option(help="IANA zone of times without an offset.")] = "UTC",
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="TABLE.COLUMN=NAME", help="State a column, e.g. events.user_id=kunde. Repeatable."),
    ] = None,
    sensitive: Annotated[
        list[str] | None, typer.Option(metavar="ATTRIBUTE", help="Declare a user attribute sensitive. Repeatable.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing partner.toml.")] = False,
) -> None:
    """Write DIR/partner.toml by looking at the files, and say what was guessed."""
    from koinon.data.guess import guess_partner
    from koinon.data.partner import PARTNER_FILE
    from koinon.errors import ConfigError

    target = folder / PARTNER_FILE
    if target.exists() and not force:
        raise ConfigError("K105", f"{target} exists already.", "Edit it, or overwrite it with --force.")
    stated: dict[str, dict[str, str]] = {}
    for entry in column or []:
        key, equals, source = entry.partition("=")
        table, dot, canonical = key.partition(".")
        if not equals or not dot or table not in ("items", "events", "users"):
            raise ConfigError("K103", f"--column {entry}: not understood.", "Write it as events.user_id=NAME.")
        stated.setdefault(table, {})[canonical] = source
    guess = guess_partner(
        folder,
        items,
        events,
        users,
        stated=stated,
        sensitive=sensitive or (),
        name=name,
        language=language,
        time_zone=time_zone,
    )
    guess.config.save(folder, guess.said)
    typer.echo(f"{target} is written:\n")
    typer.echo(guess.config.to_toml(guess.said))
    for remark in guess.open:
        typer.echo(f"note: {remark}")
    typer.echo(f"Look it over, then run: koinon partner check {folder}")


@app.command(epilog="Example: koinon partner check shop --html shop-report.html")
def check(
    folder: _Folder,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the report with histograms.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Read the sources again even if nothing changed.")] = False,
) -> None:
    """Read and validate the sources where they changed, and print the data report."""
    import json

    from koinon.config import write_atomically
    from koinon.data.check import data_report, render_html, render_text
    from koinon.data.vault import Vault

    vault = Vault(folder)
    if vault.needs_ingest() or (again and vault.config.sources.items is not None):
        with _progress() as tell:
            Vault.ingest(folder, progress=tell)
    report = data_report(vault)
    if html is not None:
        write_atomically(html, render_html(report))
    if as_json:
        typer.echo(json.dumps(report, indent=2, ensure_ascii=False))
        return
    typer.echo(render_text(report))
    quarantined = sum(rows["quarantined"] for rows in report["rows"].values())
    if quarantined:
        typer.echo(f"Quarantined rows with their reasons: {vault.quarantine_file}")
    if html is not None:
        typer.echo(f"Report with histograms: {html}")


@app.command(epilog="Example: koinon partner forget shop --user 4711")
def forget(
    folder: _Folder,
    user: Annotated[str, typer.Option(metavar="ID", help="The person's id, as in the sources.")],
    absent_ok: Annotated[
        bool,
        typer.Option("--absent-ok", help="Keep the id out of later ingests even if the vault holds nothing of it."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the receipt as JSON.")] = False,
) -> None:
    """Remove a person from the vault and from everything derived from it, and keep the person out."""
    import json

    from koinon.data.erasure import forget as forget_person

    receipt = forget_person(folder, user, absent_ok=absent_ok)
    if as_json:
        typer.echo(json.dumps(receipt.to_dict(), indent=2, ensure_ascii=False))
        return
    rows = ", ".join(f"{count:,} from {table}" for table, count in receipt.rows.items())
    typer.echo(
        f"Rows removed: {rows}. Person {receipt.people[0]} (keyed hash); the receipt is in {folder / 'erasure'}."
    )
    if receipt.removed:
        typer.echo(f"Removed because it was derived from events: {', '.join(receipt.removed)}.")
    if receipt.refit_needed:
        typer.echo("Models are gone: fit them again (`koinon federation run`) before serving.")
    if receipt.sources:
        typer.echo(f"Your own sources may still hold the person: {', '.join(receipt.sources)}.")


@contextmanager
def _progress() -> Iterator[Callable[[str, float], None]]:
    """A bar on standard error in a terminal, silence elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading", total=1.0)
        yield lambda what, share: bar.update(task, description=what, completed=share)


app.registered_commands += partner_join.app.registered_commands
app.command(epilog="Example: koinon partner privacy shop --federation federation.toml")(partner_privacy.privacy)
