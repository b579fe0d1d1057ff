"""``koinon recommend``: ask a partner's deployed recommender."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from koinon.clients.serving import Answer, Reading

__all__ = ["app"]

app = typer.Typer(add_completion=False)

_EPILOG = (
    'Examples: `koinon recommend koinon-demo --partner books-de --liked "The Hobbit" --liked "Das Parfum"`; '
    '`koinon recommend koinon-demo --partner books-en-uk --query "a dark detective story in Scotland"`; '
    '`koinon recommend DIR -q "eine Komödie unter 10 Euro, ohne Krieg" --clarify`.'
)


@app.command(epilog=_EPILOG)
def recommend(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A partner's folder, or the demonstration's output with --partner.")
    ],
    partner: Annotated[str | None, typer.Option("--partner", "-p", help="Which partner of DIR.")] = None,
    user: Annotated[str | None, typer.Option("--user", "-u", help="A user of this partner, by id.")] = None,
    liked: Annotated[
        list[str] | None, typer.Option("--liked", "-l", help="A title liked, in any language; may be repeated.")
    ] = None,
    query: Annotated[str | None, typer.Option("--query", "-q", help="A wish in words, in any language.")] = None,
    history_from: Annotated[
        Path | None,
        typer.Option(
            "--history-from",
            metavar="DIR",
            help="Another partner's folder where --user has a history. It is read here and sent nowhere.",
        ),
    ] = None,
    clarify: Annotated[
        bool,
        typer.Option("--clarify", help="Ask back, once, where the wish leaves much open; with --json, only say it."),
    ] = False,
    answered: Annotated[
        str | None, typer.Option("--answered", help="The answer to what --clarify --json has asked.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, max=100, help="How many items.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Recommend for a user, for a stranger's liked titles, or for a wish in words."""
    from pydantic import ValidationError

    from koinon.clients.serving import Ask, Shop, carried_history, find_partner
    from koinon.errors import ConfigError

    if history_from is not None and user is None:
        raise ConfigError("K123", "--history-from needs --user: whose history?", "Add --user ID.")
    try:
        carried = carried_history(history_from, user) if history_from is not None and user is not None else ()
        ask = Ask(
            user=user,
            liked=tuple(liked or ()),
            carried=carried,
            query=query,
            clarify=clarify,
            answered=answered,
            k=k,
        )
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigError("K124", f"--{place.split('.')[0]}: {first['msg']}.", "See --help.") from error
    shop = Shop.open(find_partner(folder, partner))
    answer = shop.answer(ask)
    if not as_json and answer.wish is not None and answer.wish.question is not None and sys.stdin.isatty():
        said = typer.prompt(answer.wish.question, default="", show_default=False).strip()
        answer = shop.answer(ask.model_copy(update={"clarify": False, "answered": said[:500] or None}))
    if as_json:
        typer.echo(answer.model_dump_json(indent=2))
    else:
        _print(answer)


def _print(answer: Answer) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    for reading in answer.understood:
        console.print(Text(_understood(reading), style="dim"))
    if answer.wish is not None and answer.wish.limits:
        console.print(Text(f"understood as: {'; '.join(map(str, answer.wish.limits))}", style="dim"))
    if answer.wish is not None and answer.wish.question is not None:
        console.print(Text(f"{answer.wish.question} (--answered)"))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("", justify="right", style="dim")
    table.add_column("title", ratio=5, overflow="fold")
    table.add_column("by", ratio=3, overflow="fold")
    table.add_column("score", justify="right")
    table.add_column("why", ratio=6, overflow="fold", style="dim")
    for item in answer.items:
        cells = (Text(item.title), Text(item.creator or ""), f"{item.score:.3f}", Text("; ".join(item.reasons)))
        table.add_row(str(item.rank), *cells)
    console.print(table)
    console.print(Text(f"{answer.partner}, {answer.arm}; from {answer.basis}.", style="dim"))


def _understood(reading: Reading) -> str:
    match reading.how:
        case "title":
            return f"“{reading.typed}” is in the catalogue: {reading.title}"
        case "spelling":
            return f"“{reading.typed}” is read as {reading.title} (spelling {reading.similarity:.2f})"
        case "meaning":
            return f"“{reading.typed}” is read as {reading.title} (nearest in meaning, {reading.similarity:.2f})"
        case _:
            return f"“{reading.typed}” is not in the catalogue; its words are used"
