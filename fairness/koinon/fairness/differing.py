"""What changed between two audits, e.g. of two releases: the plan, the verdicts, the groups, the gains."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue

from koinon.errors import EvaluationError
from koinon.fairness.results import AuditResults, Comparison, Federation, Provider
from koinon.fairness.verdicts import VERDICTS, Verdict

__all__ = ["CellChange", "Change", "Difference", "GainChange", "Question", "QuestionChange", "differ"]

_SAME = (("k",), ("data", "protocol"), ("data", "like_from"), ("patience",))
"""What makes figures of two audits mean the same."""
_NO_MATTER = ("draws", "question", "name", "record", "seed", "federation")

T = TypeVar("T")
Judged = Comparison | Provider


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Change(_Record):
    """A key of the plan, e.g. ``system.release.federated_gram``, and what it says in either; ``null``: nothing."""

    key: str
    before: JsonValue
    after: JsonValue


class Question(_Record):
    """One answer."""

    gap: float | None
    lo: float | None
    hi: float | None
    worst: str | None
    p_adjusted: float | None
    tolerance: float | None
    verdict: Verdict | None


class QuestionChange(_Record):
    """One primary question in both audits, or in one of them."""

    what: str
    group: str
    before: Question | None
    after: Question | None
    apart: bool
    """Whether the two intervals of the gap have nothing in common: then the change is hardly chance. Both audits
    may ask the same people, so intervals that overlap say nothing of a change either way."""
    note: str
    """Why the two cannot be held against each other; else empty."""

    @property
    def worse(self) -> bool:
        """Whether the verdict is a worse one than before."""
        verdicts = [None if one is None else one.verdict for one in (self.before, self.after)]
        before, after = verdicts
        return before is not None and after is not None and VERDICTS.index(after) < VERDICTS.index(before)


class CellChange(_Record):
    """One cell of a group's primary metric; ``null`` where it is not there or not told."""

    group: str
    cell: str
    metric: str
    n_before: int | None
    n_after: int | None
    before: float | None
    after: float | None


class GainChange(_Record):
    """What federating brought a partner; ``null`` where it was not told."""

    partner: str
    before: float | None
    after: float | None
    harmed_before: bool | None
    harmed_after: bool | None


class Difference(_Record):
    """Two audits side by side."""

    before: str
    after: str
    """Their names."""
    plan_sha256: tuple[str, str]
    people: tuple[int, int]
    verdict: tuple[Verdict, Verdict]
    plan: list[Change]
    questions: list[QuestionChange]
    cells: list[CellChange]
    gains: list[GainChange]


def differ(before: AuditResults, after: AuditResults) -> Difference:
    """Hold two audits against each other.

    Raises
    ------
    EvaluationError
        K554 they ask nothing in common, or their figures do not mean the same: other lists, another division of the
        events.
    """
    for path in _SAME:
        one, other = (_at(results.plan, path) for results in (before, after))
        if one != other:
            raise EvaluationError(
                "K554",
                f"{before.name} and {after.name} cannot be compared: {'.'.join(path)} is {one} and {other}.",
                "Plan both audits with the same.",
            )
    redefined = _redefined(before, after)
    questions = [
        _question(what, group, one, other, redefined)
        for (what, group), one, other in _paired(_primary(before), _primary(after), _asked)
    ]
    if not any(one.before and one.after and not one.note for one in questions):
        raise EvaluationError(
            "K554",
            f"{before.name} and {after.name} ask nothing in common of groups that are divided alike.",
            "Compare audits that were planned alike.",
        )
    return Difference(
        before=before.name,
        after=after.name,
        plan_sha256=(before.plan_sha256, after.plan_sha256),
        people=(before.people, after.people),
        verdict=(before.verdict, after.verdict),
        plan=_changes(before.plan, after.plan),
        questions=questions,
        cells=_cells(before, after, redefined),
        gains=_gains(before.federation, after.federation),
    )


def _at(plan: Mapping[str, Any], path: Iterable[str]) -> Any:
    found: Any = plan
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _primary(results: AuditResults) -> list[Judged]:
    every: list[Judged] = [*results.comparisons, *results.providers]
    return [one for one in every if one.verdict is not None]


def _asked(one: Judged) -> tuple[str, str]:
    return (one.metric, one.group) if isinstance(one, Comparison) else (f"attention by {one.by}", one.source)


def _redefined(before: AuditResults, after: AuditResults) -> set[str]:
    """Groups of one name that divide people otherwise."""
    definitions = []
    for results in (before, after):
        groups: Any = results.plan["groups"]
        keys = ("by", "column", "merge", "bands", "values", "at")
        definitions.append({group["name"]: {key: group.get(key) or None for key in keys} for group in groups})
    one, other = definitions
    return {name for name in one if name in other and one[name] != other[name]}


def _paired(
    before: Iterable[T], after: Iterable[T], key: Callable[[T], tuple[str, ...]]
) -> list[tuple[tuple[str, ...], T | None, T | None]]:
    there, here = ({key(one): one for one in side} for side in (before, after))
    return [(name, there.get(name), here.get(name)) for name in dict.fromkeys((*there, *here))]


def _question(
    what: str, group: str, before: Judged | None, after: Judged | None, redefined: set[str]
) -> QuestionChange:
    note = ""
    if before is None or after is None:
        note = "asked in one of the two only"
    elif set(group.split("*")) & redefined:
        note = "the groups are divided otherwise"
    elif before.tolerance != after.tolerance:
        note = "the tolerance is another"
    ends = [end for one in (before, after) if one for end in (one.lo, one.hi)]
    apart = len(ends) == 4 and None not in ends and (ends[1] < ends[2] or ends[3] < ends[0])  # type: ignore[operator]
    return QuestionChange(
        what=what, group=group, before=_answer(before), after=_answer(after), apart=bool(apart), note=note
    )


def _answer(one: Judged | None) -> Question | None:
    if one is None:
        return None
    gap, worst = (one.gap, one.worst) if isinstance(one, Comparison) else (one.deviation, None)
    return Question(
        gap=gap,
        lo=one.lo,
        hi=one.hi,
        worst=worst,
        p_adjusted=one.p_adjusted,
        tolerance=one.tolerance,
        verdict=one.verdict,
    )


def _cells(before: AuditResults, after: AuditResults, redefined: set[str]) -> list[CellChange]:
    asked = dict.fromkeys(_asked(one) for one in (*_primary(before), *_primary(after)) if isinstance(one, Comparison))
    found = []
    for metric, group in asked:
        if set(group.split("*")) & redefined:
            continue
        sides = [
            [cell for one in results.groups if one.name == group for cell in one.cells] for results in (before, after)
        ]
        for (label,), one, other in _paired(sides[0], sides[1], lambda cell: (cell.label,)):
            told = [None if cell is None else cell.figures.get(metric) for cell in (one, other)]
            n, mean = ([None if at is None else getattr(at, name) for at in told] for name in ("n", "mean"))
            found.append(
                CellChange(
                    group=group,
                    cell=label,
                    metric=metric,
                    n_before=n[0],
                    n_after=n[1],
                    before=mean[0],
                    after=mean[1],
                )
            )
    return found


def _gains(before: Federation | None, after: Federation | None) -> list[GainChange]:
    sides = [[] if one is None else one.partners for one in (before, after)]
    return [
        GainChange(
            partner=partner,
            before=None if one is None else one.gain,
            after=None if other is None else other.gain,
            harmed_before=None if one is None else one.harmed,
            harmed_after=None if other is None else other.harmed,
        )
        for (partner,), one, other in _paired(sides[0], sides[1], lambda gain: (gain.partner,))
    ]


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    one, other = _flat(before), _flat(after)
    return [
        Change(key=key, before=one.get(key), after=other.get(key))
        for key in dict.fromkeys((*one, *other))
        if one.get(key) != other.get(key) and key not in _NO_MATTER
    ]


def _flat(value: Any, key: str = "") -> dict[str, Any]:
    """Leaves by dotted key; a list of tables by the names in it, any other list as a whole."""
    if isinstance(value, dict):
        return {name: leaf for part, inner in value.items() for name, leaf in _flat(inner, f"{key}{part}.").items()}
    if isinstance(value, list) and value and all(isinstance(one, dict) and "name" in one for one in value):
        return _flat({one["name"]: {k: v for k, v in one.items() if k != "name"} for one in value}, key)
    return {key.rstrip("."): value}
