"""``koinon federation``: found a federation, host it, decide who belongs to it, train."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from koinon.cli import (
    federation_backup,
    federation_home,
    federation_members,
    federation_releases,
    federation_schedule,
)

if TYPE_CHECKING:
    from rich.console import Console

    from koinon.server import FederationResult

    _Start = Callable[[Callable[[Mapping[str, Any]], None]], FederationResult]

app = typer.Typer(help="Found a federation, host it, decide who belongs to it, train.", no_args_is_help=True)

_FOUND = "Found and host"
_MEMBERS = "Members"
_RELEASES = "Releases"
_OPERATE = "Operate"

for _command in (federation_home.create, federation_home.host, federation_home.certificate, federation_home.policy):
    app.command(rich_help_panel=_FOUND)(_command)
for _name in federation_members.__all__:
    app.command(rich_help_panel=_MEMBERS)(getattr(federation_members, _name))
for _name in federation_releases.__all__:
    app.command(rich_help_panel=_RELEASES)(getattr(federation_releases, _name))
for _command in (federation_schedule.schedule, federation_schedule.health):
    app.command(rich_help_panel=_OPERATE)(_command)
for _name in federation_backup.__all__:
    app.command(rich_help_panel=_FOUND)(getattr(federation_backup, _name))


@app.command()
def run(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="A created federation's folder; its host must be running.")
    ] = None,
    federation: Annotated[
        Path | None, typer.Option("--federation", "-f", help="Or a TOML file whose partners are folders here.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Output folder; default: `<name>` beside the file.")
    ] = None,
    recommender: Annotated[
        str | None,
        typer.Option(help="Train this learner of the file alone, or any other by its defaults, e.g. federated_hstu."),
    ] = None,
    processes: Annotated[
        bool,
        typer.Option("--processes/--simulation", help="One SuperNode process per partner, or Flower's simulation."),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Events as JSON lines, and the result as the last one.")
    ] = False,
) -> None:
    """Train the federation's learners, publish releases, and let every partner fit and choose its models.

    An interrupted run goes on from its last finished round when the same command is given again.
    """
    start = _start(folder, federation, out, recommender, processes=processes)
    # a service manager's stop is as good as Ctrl-C: everything started is ended on the way out
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if as_json:
        result = start(_print_json)
        _print_json({"event": "result", **_plain(result)})
        return
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 160  # a file or a pipe: nothing to fit into
    with Display(console) as display:
        result = start(display)
    _summary(console, result)


def _start(
    folder: Path | None, federation: Path | None, out: Path | None, recommender: str | None, *, processes: bool
) -> _Start:
    """What is to be run: a created federation, or a file's on this machine."""
    from koinon.errors import ConfigError

    if folder is not None and federation is None:
        from koinon.server import run_hosted
        from koinon.server.membership import FederationHome

        if out is not None or processes or recommender is not None:
            raise ConfigError(
                "K118",
                "A created federation trains what its members agreed on, in its own folder, on their nodes.",
                "Give DIR alone; learners are changed in federation.toml, and members asked to accept.",
            )
        return partial(run_hosted, FederationHome(folder))
    if federation is None or folder is not None:
        raise ConfigError("K118", "What is to be run?", "Give a federation's folder, or --federation FILE.")
    from koinon.server import FederationConfig, run_federation

    config = FederationConfig.load(federation)
    if recommender is not None:
        config = config.training_only(recommender)
    target = out or federation.resolve().parent / config.name
    return partial(run_federation, config, target, "processes" if processes else "simulation")


@app.command("match-key")
def match_key(
    partners: Annotated[list[Path], typer.Argument(help="Folders of the partners that share it.", exists=True)],
) -> None:
    """Write one new match key into partners' folders: with it catalogues are compared without being read.

    On machines of their own partners hand the file on among themselves; the server must not see it.
    """
    from koinon.privacy import write_match_key

    write_match_key(partners)
    typer.echo(f"match.key written into {len(partners)} folders; set keyed_catalogues = true in the federation's file.")


def _print_json(event: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(event, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def _plain(result: FederationResult) -> dict[str, Any]:
    return {
        "out": str(result.out),
        "mode": result.mode,
        "releases": {learner: str(folder) for learner, folder in result.releases.items()},
        "adopted": {partner: dict(metrics) for partner, metrics in result.adopted.items()},
        "left_out": dict(result.left_out),
        "seconds": round(result.seconds, 3),
    }


class Display:
    """Shows events: plain lines everywhere, in a terminal with a spinner that says what is awaited."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.status = console.status("starting Flower") if console.is_terminal else None

    def __enter__(self) -> Display:
        if self.status is not None:
            self.status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.status is not None:
            self.status.stop()

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Show one event."""
        line = _line(event)
        if line:
            self.console.print(line, markup=False)
        if self.status is not None:
            self.status.update(_awaited(event))


def _line(event: Mapping[str, Any]) -> str:
    match event["event"]:
        case "started":
            return f"run {event['run']}: waiting for {len(event['partners'])} partners"
        case "resumed":
            return f"run {event['run']} goes on from its last finished round"
        case "joined":
            return f"{event['partner']} joined: {event['items']:,} items, {'public' if event['public'] else 'keyed'}"
        case "left_out" if event.get("partner"):
            return f"{event['partner']} left out of {event['phase']}: {event['code']}"
        case "round":
            return _round_line(event)
        case "release":
            return f"release {event['release']}: {event['learner']} after {event['rounds']} rounds"
        case "adopted":
            return f"{event['partner']} has chosen its models ({event['seconds']:.1f} s)"
        case "alarm":
            learner = f" ({event['learner']})" if event["learner"] else ""
            return f"alarm {event['code']}: {event['partner']}{learner}"
        case "withdrawn":
            back = f"release {event['back_to']} counts again" if event["back_to"] else "no release of it counts now"
            return f"release {event['release']} of {event['learner']} withdrawn ({event['reason']}): {back}"
        case _:
            return ""


def _round_line(event: Mapping[str, Any]) -> str:
    figures = [f"{p} {m['ndcg@10']:.4f}" for p, m in sorted(event["metrics"].items()) if "ndcg@10" in m]
    missing = [f"{p} ({code})" for p, code in sorted(event["left_out"].items())]
    said = [
        f"{event['learner']} round {event['round']}/{event['rounds']}: {len(event['participants'])} partners,"
        f" {event['seconds']:.1f} s"
    ]
    if event.get("overhead_seconds") is not None:
        said.append(f"of which {event['overhead_seconds']:.1f} s overhead")
    odd = [f"{a['partner']} {a['tensor']} ({', '.join(a['codes'])})" for a in event.get("anomalies", ()) if a["codes"]]
    if odd:
        said.append("look at " + ", ".join(odd))
    if missing:
        said.append("without " + ", ".join(missing))
    if figures:
        said.append("validation " + ", ".join(figures))
    return "; ".join(said)


def _awaited(event: Mapping[str, Any]) -> str:
    match event["event"]:
        case "round" if event["round"] < event["rounds"]:
            return f"{event['learner']} round {event['round'] + 1}/{event['rounds']}"
        case "initial":
            return f"{event['learner']} round 1"
        case "release" | "adopted":
            return "partners fit and choose their models"
        case _:
            return "working"


def _summary(console: Console, result: FederationResult) -> None:
    from rich.table import Table

    names = sorted({name for metrics in result.adopted.values() for name in metrics if name != "work_seconds"})
    table = Table(title="NDCG@10 of each arm on the partners' own validation users")
    for column in ("partner", *names):
        table.add_column(column.removeprefix("ndcg@10/"), justify="left" if column == "partner" else "right")
    for partner, metrics in sorted(result.adopted.items()):
        table.add_row(partner, *(f"{metrics[name]:.4f}" if name in metrics else "" for name in names))
    if names:
        console.print(table)
    for partner, code in sorted(result.left_out.items()):
        console.print(f"{partner} was left out at some time: {code}", markup=False)
    console.print(f"{result.seconds:.1f} s; releases and progress in {result.out}", markup=False)
