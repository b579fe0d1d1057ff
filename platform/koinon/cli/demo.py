"""``koinon demo``: the whole story on real data."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from koinon.studies.report import Results

app = typer.Typer(help="Fetch real data, federate ten partners, and write a report on who gains.")


@app.callback(
    invoke_without_command=True,
    epilog="Example: koinon demo --out my-demo && koinon recommend my-demo --partner books-de --liked 'The Hobbit'",
)
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Output folder.")] = Path("koinon-demo"),
    full: Annotated[bool, typer.Option("--full", help="Lift the caps on items and users (long).")] = False,
    processes: Annotated[
        bool,
        typer.Option("--processes/--simulation", help="One SuperNode process per partner, or Flower's simulation."),
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Federate and pool anew, whatever an earlier run left.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 7,
    as_json: Annotated[bool, typer.Option("--json", help="Print progress and results as JSON lines.")] = False,
) -> None:
    """Fetch real data, federate ten partners, and write a report on who gains.

    An interrupted demonstration goes on where it stopped when the same command is given again.
    """
    import signal

    from koinon.studies.demo import DemoConfig, run_demo

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    config = DemoConfig(full=full, mode="processes" if processes else "simulation", seed=seed)
    command = " ".join(["koinon demo", *(["--full"] if full else []), *(["--processes"] if processes else [])])
    if as_json:
        results = run_demo(out, config, fresh=fresh, command=command, say=_say_json, on_event=_print_json)
        _print_json({"event": "result", "out": str(out), "results": results.model_dump(mode="json")})
        return
    from rich.console import Console

    from koinon.cli.federation import Display

    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 160  # a file or a pipe: nothing to fit into
    console.print(
        "Ten businesses on real data. Public research sets, under their publishers' terms: `koinon data list`.",
        markup=False,
    )
    display = Display(console)
    with display:
        results = run_demo(
            out,
            config,
            fresh=fresh,
            command=command,
            say=lambda line: console.print(line, markup=False),
            on_event=display,
            on_encoded=_encoded(console),
        )
    _summary(console, results, out)


def _print_json(event: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(event, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def _say_json(line: str) -> None:
    _print_json({"event": "step", "text": line})


def _encoded(console: Console) -> Callable[[int, int], None]:
    """Say now and then how many texts are encoded."""
    said = 0

    def tell(done: int, total: int) -> None:
        nonlocal said
        if done - said >= 4000 or done == total:
            console.print(f"  {done:,} of {total:,} new texts encoded", markup=False)
            said = done

    return tell


def _summary(console: Console, results: Results, out: Path) -> None:
    from rich.table import Table

    from koinon.studies.report.results import ARMS

    table = Table(title="NDCG@10 on the test set, whole catalogue; the arm a partner deploys is `federated`")
    table.add_column("partner")
    for column in ("users", *ARMS, "vs local", "vs local_space"):
        table.add_column(column, justify="right")
    for name, partner in results.partners.items():
        cells = [partner.arms[arm]["all"]["ndcg@10"].mean if arm in partner.arms else None for arm in ARMS]
        gains = [partner.gains[key]["all"] for key in ("federated_vs_local", "federated_vs_local_space")]
        table.add_row(
            name,
            f"{partner.counts.test_users:,}",
            *("" if cell is None else f"{cell:.4f}" for cell in cells),
            *("" if gain.relative is None else f"{gain.relative:+.1%}" for gain in gains),
        )
    console.print(table)
    console.print(results.summary.headline, markup=False)
    for aim in results.summary.aims:
        mark = {True: "reached", False: "MISSED", None: "not measured"}[aim.reached]
        console.print(f"  {mark}: {aim.target} {aim.measured}", markup=False)
    seconds = ", ".join(f"{step} {value:.0f} s" for step, value in results.timings.items())
    console.print(f"{seconds}\nReport: {out / 'report.html'}   figures: {out / 'results.json'}", markup=False)
    console.print(
        f"Try: koinon recommend {out} --partner books-de --liked 'The Hobbit' --liked 'Le Petit Prince'\n"
        f"     koinon recommend {out} --partner books-en-uk --query 'a dark detective story in Scotland'",
        markup=False,
    )
