"""``koinon federation schedule | health``: runs by themselves, and what they bring the partners."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from koinon.server.operation.watch import RunSeen

__all__ = ["health", "schedule"]

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_MEANING = {
    "K712": "the release harms it",
    "K713": "its gain has fallen",
    "K714": "its data have drifted",
}


def schedule(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The federation's folder.")],
    every: Annotated[
        str, typer.Option("--every", metavar="WHEN", help="30m, 12h, 7d, 2w, or `daily 03:00` (UTC).")
    ] = "",
    at_least: Annotated[
        int | None, typer.Option(min=1, help="Wait for so many connected members; otherwise the policy's minimum.")
    ] = None,
    until: Annotated[str, typer.Option(metavar="MOMENT", help="No runs from then on, e.g. 2027-01-31 (UTC).")] = "",
    show: Annotated[bool, typer.Option("--show", help="Show the schedule and what has become of it.")] = False,
    off: Annotated[bool, typer.Option("--off", help="No runs by themselves any more; one under way goes on.")] = False,
    as_json: Json = False,
) -> None:
    """Let the federation train by itself, as long as `koinon federation host DIR` runs."""
    from koinon.errors import FederationError
    from koinon.server.membership import FederationHome
    from koinon.server.operation.schedule import Schedule, parse_moment

    home = FederationHome(folder)
    if (bool(every) + show + off) != 1 or (not every and (at_least or until)):
        raise FederationError("K797", "What is to be done?", "Give --every WHEN, --show or --off.")
    if off:
        Schedule.file(home.folder).unlink(missing_ok=True)
    elif every:
        now = datetime.now(UTC).replace(microsecond=0)
        end = parse_moment(until) if until else None
        Schedule(every=every, since=now, at_least=at_least, until=end).save(home.folder)
    described = _described(home.folder)
    if as_json:
        typer.echo(json.dumps(described, indent=2))
        return
    if not described["every"]:
        typer.echo("Nothing is scheduled.")
        return
    _print_schedule(described)


def health(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The federation's folder, or a run's output folder.")],
    last: Annotated[int, typer.Option(min=1, help="So many runs, the newest.")] = 5,
    as_json: Json = False,
) -> None:
    """Show what each run has brought each partner: gain over its own model, alarms, releases withdrawn."""
    from koinon.server.operation.watch import History, gain
    from koinon.server.place import Place

    place = Place.find(folder)
    runs = History(place.out).runs()[-last:]
    with place.books() as (_, book):  # an operator may have withdrawn some since
        gone = {release.manifest.number for release in book.releases() if release.withdrawn}
    runs = [
        replace(seen, withdrawn=tuple(sorted({*seen.withdrawn, *(x for x, n in seen.releases.items() if n in gone)})))
        for seen in runs
    ]
    if as_json:
        told = [asdict(seen) | {"gain": {p: gain(f) for p, f in seen.figures.items()}} for seen in runs]
        typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
        return
    if not runs:
        typer.echo("No run has been delivered yet.")
        return
    _print_health(runs)


def _described(folder: Path) -> dict[str, Any]:
    from koinon.server.operation.schedule import Progress, Schedule

    plan, progress = Schedule.of(folder), Progress.of(folder)
    if plan is None:
        return {"every": None}
    now = datetime.now(UTC)
    due = plan.last_due(now)
    waiting = due is not None and (progress.slot is None or due > progress.slot)
    return {
        "every": plan.every,
        "at_least": plan.at_least,
        "until": _moment(plan.until),
        "last_run_of": _moment(progress.slot),
        "running": _moment(progress.running),
        "next": _moment(max(due, progress.not_before or due) if waiting and due else plan.next_due(now)),
        "failures": progress.failures,
        "code": progress.code,
    }


def _moment(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat(timespec="minutes").replace("+00:00", "Z") if moment else None


def _print_schedule(described: dict[str, Any]) -> None:
    labels = {
        "every": "Every",
        "at_least": "At least connected",
        "until": "Until",
        "last_run_of": "Last run of",
        "running": "Under way since",
        "next": "Next",
        "failures": "Failures in a row",
        "code": "Last failure",
    }
    for key, label in labels.items():
        if described[key]:
            typer.echo(f"  {label:<19} {described[key]}")


def _print_health(runs: list[RunSeen]) -> None:
    from rich.console import Console
    from rich.table import Table

    from koinon.server.operation.watch import gain

    table = Table(box=None)
    for column in ("run of (UTC)", "releases", "partner", "own", "deployed", "gain", ""):
        table.add_column(column, justify="right" if column in {"own", "deployed", "gain"} else "left")
    for seen in runs:
        what = ", ".join(
            f"{number} {learner}{' (withdrawn)' if learner in seen.withdrawn else ''}"
            for learner, number in seen.releases.items()
        )
        when = seen.time[:16].replace("T", " ")
        for partner in sorted({*seen.figures, *seen.left_out}):
            figures = seen.figures.get(partner, {})
            own, lead = figures.get("ndcg@10/local_space", figures.get("ndcg@10/local")), gain(figures)
            said = [_MEANING[a.code] for a in seen.alarms if a.partner == partner]
            said += [f"left out ({seen.left_out[partner]})"] if partner in seen.left_out else []
            shown = (_figure(own), _figure(figures.get("ndcg@10/federated")), "" if lead is None else f"{lead:+.1%}")
            table.add_row(when, what, partner, *shown, "; ".join(said))
            when = what = ""
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 160
    console.print(table)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
