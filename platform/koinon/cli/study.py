"""``koinon study``: compare every paradigm on the same data with the same questions."""

from __future__ import annotations

import json
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from koinon.studies.paradigms import StudyResults

__all__ = ["app"]

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode="rich")

Out = Annotated[Path, typer.Option("--out", "-o", help="Keeps every finished measure and the report.", file_okay=False)]
AsJson = Annotated[bool, typer.Option("--json", help="For programs: JSON lines, the last is the result.")]

_RUN = (
    "Examples: `koinon study run paradigms --data ml-100k --out study`; `koinon study run paradigms --data books-de "
    "--data shops/office --seeds 0,1,2 --model gguf:model.gguf --out study`."
)
_SHOW = "Examples: `koinon study show study`; every table, for a document: `koinon study show study --markdown`."


@app.callback()
def study() -> None:
    """Compare every paradigm on the same data with the same questions."""


@app.command(epilog=_RUN)
def run(
    what: Annotated[Literal["paradigms"], typer.Argument(help="The study.")],
    data: Annotated[
        list[str],
        typer.Option(
            "--data",
            "-d",
            help="A public data set, books-LANGUAGE, or a partner's folder; @time, @last or @holdout after it states "
            "how events are divided. Repeatable.",
        ),
    ],
    out: Out,
    arms: Annotated[str, typer.Option("--arms", help="Names, separated by commas; otherwise all.")] = "",
    seeds: Annotated[str, typer.Option("--seeds", help="Numbers, separated by commas.")] = "0,1,2",
    users: Annotated[
        int, typer.Option("--users", min=2, help="People asked about by arms that put a language model to work.")
    ] = 100,
    candidates: Annotated[int, typer.Option("--candidates", min=2, help="What such an arm reranks.")] = 50,
    settings: Annotated[
        Path | None, typer.Option("--settings", help="Folder of kept settings, e.g. bench/configs/baselines.")
    ] = None,
    budget: Annotated[
        int, typer.Option("--budget", min=0, help="Trials on validation per arm without kept settings; 0: defaults.")
    ] = 8,
    encoder: Annotated[str, typer.Option("--encoder", help="Gives texts their vectors.")] = "use-multilingual",
    model: Annotated[
        str | None, typer.Option("--model", help="A decoder language model, hf:NAME or gguf:FILE.")
    ] = None,
    max_items: Annotated[int | None, typer.Option("--max-items", min=10, help="Keep those with most events.")] = None,
    max_users: Annotated[int | None, typer.Option("--max-users", min=10, help="Keep a stable sample.")] = None,
    cold_items: Annotated[
        float,
        typer.Option("--cold-items", min=0.0, max=0.49, help="Share of each catalogue whose events are withheld."),
    ] = 0.05,
    minutes: Annotated[
        float | None,
        typer.Option("--minutes", min=0.01, help="Processor minutes for one arm, seed and data set at most."),
    ] = None,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Of every arm's process.")] = 1,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes at once.")] = 1,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Sum up what is there; what is missing is listed as not reached.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train and measure every recommender, and write a report: accuracy, clicks, cold start, lists, wording, cost.

    The same command goes on where it was interrupted and repeats nothing that is finished.
    """
    from koinon.studies.paradigms import StudyConfig, run_study

    config = StudyConfig.from_dict(
        {
            "data": data,
            "arms": [name.strip() for name in arms.split(",") if name.strip()],
            "seeds": _numbers(seeds),
            "users": users,
            "candidates": candidates,
            "settings": settings,
            "budget": budget,
            "encoder": encoder,
            "model": model,
            "max_items": max_items,
            "max_users": max_users,
            "cold_items": cold_items,
            "minutes": minutes,
            "threads": threads,
            "workers": workers,
        },
        source="the command line",
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    command = shlex.join(["koinon", *(word for word in sys.argv[1:] if word != "--report-only")])
    with _shown(as_json) as show:
        results = run_study(config, out, command=command, report_only=report_only, on_event=show)
    _say(results, out, as_json)


@app.command(epilog=_SHOW)
def show(
    out: Annotated[Path, typer.Argument(help="A study's folder.", file_okay=False)],
    markdown: Annotated[bool, typer.Option("--markdown", help="Every question's table, to be pasted.")] = False,
    as_json: AsJson = False,
) -> None:
    """What a study has found so far: NDCG@10 over everybody, and where each approach is strong and weak."""
    from koinon.studies.paradigms import StudyResults, tables

    results = StudyResults.read(out / "results.json")
    if markdown:
        print(tables.markdown(results), end="")
        return
    _say(results, out, as_json)


def _numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",") if number.strip()]
    except ValueError as error:
        raise typer.BadParameter(f"`{text}` is no list of numbers", param_hint="--seeds") from error


@contextmanager
def _shown(as_json: bool) -> Iterator[Callable[[dict[str, Any]], None]]:
    """JSON lines, one bar on a terminal, or a line for what happens."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if as_json:
        yield lambda event: print(json.dumps(event), flush=True)
        return
    if not console.is_terminal:

        def line(event: dict[str, Any]) -> None:
            if said := _words(event):
                console.print(said, markup=False)

        yield line
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("reading the data", total=None)

        def follow(event: dict[str, Any]) -> None:
            if event["event"] == "plan":
                bar.update(task, total=event["jobs"])
            elif event["event"] in ("data", "failed"):
                bar.console.print(_words(event), markup=False)
            elif event["event"] == "done":
                bar.update(task, completed=event["jobs"], description="done")
            else:
                measure = f", {event['measure']}" if "measure" in event else ""
                bar.update(task, description=_where(event) + measure)
            bar.advance(task, event["event"] in ("kept", "over", "failed"))

        yield follow


def _words(event: dict[str, Any]) -> str:
    kind = event["event"]
    if kind == "data":
        return f"{event['data']}: {event['users']:,} people, {event['items']:,} items, {event['events']:,} events"
    if kind == "plan":
        return f"{event['jobs']} jobs"
    if kind in ("kept", "begun"):
        return f"{_where(event)}: {'kept' if kind == 'kept' else ', '.join(event['missing'])}"
    if kind == "measure" and event["state"] == "done":
        return f"{_where(event)}: {event['measure']} in {event['seconds']:.1f} s"
    if kind == "failed":
        return f"{_where(event)}: not run: {event['message']}"
    return "done" if kind == "done" else ""


def _where(event: dict[str, Any]) -> str:
    return f"{event['number']}/{event['of']} {event['data']} {event['arm']} seed {event['seed']}"


def _say(results: StudyResults, out: Path, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"event": "result", "out": str(out), "results": results.model_dump(mode="json")}), flush=True)
        return
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200  # a file or a pipe: nothing to fit into
    _table(results, console)
    for finding in results.findings:
        if finding.kind in ("strong", "weak"):
            console.print(f"{finding.paradigm}, {finding.kind}: {finding.question}: {finding.text}", markup=False)
    console.print(f"Report: {out / 'report.html'}   figures: {out / 'results.json'}", markup=False, soft_wrap=True)


def _table(results: StudyResults, console: Console) -> None:
    from rich.table import Table

    from koinon.studies.paradigms.findings import verdict

    marks = {"better": " +", "worse": " -", "same": ""}
    k = results.settings["k"]
    table = Table(title=f"NDCG@{k}, whole catalogue; + and - against the reference (ref), 5 % after Holm")
    table.add_column("recommender")
    for name in results.data:
        table.add_column(name, justify="right")
    for arm, about in results.arms.items():
        cells = []
        for one in results.data.values():
            found = one.arms.get(arm)
            mean = None if found is None else found.figures.get("all", {}).get(f"ndcg@{k}")
            if found is None or mean is None or mean.mean is None:
                cells.append("")
                continue
            mark = " ref" if arm == one.reference else marks[verdict(found.gains.get("all"))]
            cells.append(f"{mean.mean:.4f}{mark}")
        if any(cells):
            table.add_row(about.title, *cells)
    console.print(table)
