"""What ``koinon audit diff`` prints for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from koinon.fairness.differing import Difference, Question

__all__ = ["show"]

_DASH = "–"
_LONGEST = 60


def show(found: Difference) -> None:
    """Print two audits side by side."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 160
    hashes = [sha256[:16] for sha256 in found.plan_sha256]
    same = "one plan" if hashes[0] == hashes[1] else f"plans {hashes[0]}… and {hashes[1]}…"
    console.print(f"{found.before} → {found.after}: {found.verdict[0]} → {found.verdict[1]}", markup=False)
    console.print(f"{found.people[0]:,} → {found.people[1]:,} people; {same}", markup=False)
    for change in found.plan:
        console.print(f"  {change.key}: {_short(change.before)} → {_short(change.after)}", markup=False)
    table = _table("question", "over", "verdict", "gap", "interval", "note")
    for one in found.questions:
        verdicts = f"{_verdict(one.before)} → {_verdict(one.after)}"
        gaps = " → ".join(_DASH if side is None else _figure(side.gap) for side in (one.before, one.after))
        spans = " → ".join(_span(side) for side in (one.before, one.after))
        note = one.note or ("worse" if one.worse else "") or ("intervals apart" if one.apart else "")
        table.add_row(one.what, one.group, verdicts, gaps, spans, note)
    console.print(table)
    table = _table("group", "cell", "people", "mean")
    for cell in found.cells:
        people = " → ".join(_DASH if n is None else f"{n:,}" for n in (cell.n_before, cell.n_after))
        figures = f"{_figure(cell.before)} → {_figure(cell.after)} {cell.metric}"
        table.add_row(cell.group, cell.cell, people, figures)
    console.print(table)
    if found.gains:
        table = _table("partner", "gain over its own local model", "")
        for gain in found.gains:
            sides = (gain.harmed_before, gain.harmed_after)
            harmed = [_DASH if one is None else ("harmed" if one else "not harmed") for one in sides]
            said = f"{_figure(gain.before, 4)} → {_figure(gain.after, 4)}"
            table.add_row(gain.partner, said, " → ".join(harmed) if len(set(harmed)) > 1 else harmed[0])
        console.print(table)


def _table(*columns: str) -> Table:
    table = Table(box=None)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _verdict(side: Question | None) -> str:
    return _DASH if side is None or side.verdict is None else side.verdict


def _span(side: Question | None) -> str:
    return _DASH if side is None or side.lo is None else f"{_figure(side.lo)} to {_figure(side.hi)}"


def _figure(value: float | None, digits: int = 3) -> str:
    return _DASH if value is None else f"{value:.{digits}f}"


def _short(value: object) -> str:
    said = _DASH if value is None else str(value)
    return said if len(said) <= _LONGEST else f"{said[:_LONGEST]}…"
