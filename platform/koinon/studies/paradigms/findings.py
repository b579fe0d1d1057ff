"""Where each paradigm is strong and weak, in sentences made from figures by stated rules.

On every data set a paradigm is spoken for by its arm that was best on validation (for clicks: by AUC). It is *strong*
in a question where it is better than the reference on at least half of the data sets and worse on none, *weak* where it
is worse on at least half and better on none, *level* otherwise. Better and worse are what the tests say (Holm, 5 %); in
questions without a test they are a difference of a tenth. Of wording: strong where at least .8 of a list stays whatever
the words, weak where less than half does. Of processor time: strong where it takes no more than the reference's, weak
where it takes ten times as much, by the median over data sets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Literal

from koinon.studies.paradigms.arms import PARADIGMS
from koinon.studies.paradigms.criteria import QUESTIONS, Question
from koinon.studies.paradigms.results import About, ArmResult, DataResult, Finding
from koinon.studies.report.results import Gain
from koinon.studies.report.words import figure, percent

__all__ = ["find", "short", "verdict"]

Kind = Literal["strong", "weak", "level", "unknown"]
TENTH = 0.1
STAYS, HANGS = 0.8, 0.5
LONGER = 10.0


def verdict(gain: Gain | None) -> Literal["better", "worse", "same"]:
    """What a test says."""
    if gain is None or gain.p_holm is None or gain.mean is None or not gain.p_holm < 0.05:
        return "same"
    return "better" if gain.mean > 0 else "worse"


def find(arms: Mapping[str, About], data: Mapping[str, DataResult]) -> list[Finding]:
    """Every paradigm and question that there are figures on."""
    found = []
    for paradigm in PARADIGMS:
        own = [name for name, about in arms.items() if about.paradigm == paradigm]
        for question in QUESTIONS:
            said = _chance(data) if paradigm == "conventional" else _ask(question, own, arms, data)
            if paradigm == "conventional" and question.key != "cold_among_cold":
                continue
            if said is not None:
                found.append(Finding(paradigm=paradigm, kind=said[0], question=question.words, text=said[1]))
    return found


def _ask(
    question: Question, own: Sequence[str], arms: Mapping[str, About], data: Mapping[str, DataResult]
) -> tuple[Kind, str] | None:
    spokesmen = {name: _spokesman(question, own, one) for name, one in data.items()}
    present = {name: arm for name, arm in spokesmen.items() if arm is not None}
    if not present:
        return None
    if question.key in ("cost", "latency"):
        return _times(question, present, data)
    if question.key == "reworded":
        return _reworded(present, data)
    counts = {"better": 0, "worse": 0, "same": 0}
    best: tuple[float, str] | None = None
    for name, arm in present.items():
        one = data[name]
        result = one.arms[arm]
        if question.kind == "tested":
            gain = _gain(question, result)
            if gain is None:
                continue
            told = verdict(gain)
            size = gain.relative if gain.relative is not None else gain.mean
        else:
            told, size = _beside(question, result, one)
            if size is None:
                continue
        counts[told] += 1
        if size is not None and (best is None or abs(size) > abs(best[0])):
            shown = percent(size, 0) if question.key != "auc" else figure(size)
            best = (size, f"most on {name}: {arms[arm].title}, {shown}")
    total = sum(counts.values())
    if not total:
        return None
    kind = _kind(counts, total)
    alike = "not told apart" if question.kind == "tested" else "within a tenth"
    text = f"better than the reference on {counts['better']}, worse on {counts['worse']}, {alike} on {counts['same']}"
    return kind, f"{text}{'; ' + best[1] if best is not None and kind != 'level' else ''}."


def _kind(counts: Mapping[str, int], total: int) -> Kind:
    if counts["better"] * 2 >= total and not counts["worse"]:
        return "strong"
    return "weak" if counts["worse"] * 2 >= total and not counts["better"] else "level"


def _spokesman(question: Question, own: Sequence[str], one: DataResult) -> str | None:
    """The paradigm's arm that was best on validation, of those that were asked this question."""
    able: dict[str, float] = {}
    for name in own:
        result = one.arms.get(name)
        if result is None or name == one.reference:
            continue
        if question.key == "auc":
            if result.clicks is not None and result.clicks.gains:
                able[name] = result.clicks.validation
        elif result.validation is not None and result.figures and (question.key != "reworded" or result.reworded):
            able[name] = result.validation
    return max(able, key=lambda name: able[name]) if able else None


def _gain(question: Question, result: ArmResult) -> Gain | None:
    if question.key == "auc":
        return None if result.clicks is None else result.clicks.gains.get("auc")
    gain = result.gains.get(question.key)
    return gain if gain is not None and gain.n else None


def _beside(
    question: Question, result: ArmResult, one: DataResult
) -> tuple[Literal["better", "worse", "same"], float | None]:
    reference = one.arms[one.reference] if one.reference else None
    key = next((name for name in result.lists if name.startswith(question.key)), None)
    if reference is None or key is None or (result.sampled and question.key == "coverage"):
        return "same", None  # the lists of a sample of people show less of a catalogue, whatever they hold
    mine, base = result.lists[key], reference.lists.get(key)
    if mine is None or not base:
        return "same", None
    size = mine / base - 1
    better = size > TENTH if question.kind == "higher" else size < -TENTH
    worse = size < -TENTH if question.kind == "higher" else size > TENTH
    return ("better" if better else "worse" if worse else "same"), size


def _times(question: Question, present: Mapping[str, str], data: Mapping[str, DataResult]) -> tuple[Kind, str] | None:
    column = "fit_seconds" if question.key == "cost" else "p50_ms"
    ratios = []
    for name, arm in present.items():
        reference = data[name].reference
        mine = getattr(data[name].arms[arm].cost, column)
        base = getattr(data[name].arms[reference].cost, column) if reference else None
        if mine is not None and base:
            ratios.append(mine / base)
    if not ratios:
        return None
    middle = median(ratios)
    kind: Kind = "strong" if middle <= 1 else "weak" if middle >= LONGER else "level"
    return (
        kind,
        f"{short(middle)} times the reference's, median over {len(ratios)} data set{'s' * (len(ratios) != 1)}.",
    )


def short(value: float) -> str:
    """Two figures that count, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def _reworded(present: Mapping[str, str], data: Mapping[str, DataResult]) -> tuple[Kind, str] | None:
    worst: tuple[float, str, str] | None = None
    for name, arm in present.items():
        for change, found in data[name].arms[arm].reworded.items():
            if found.overlap.mean is not None and (worst is None or found.overlap.mean < worst[0]):
                worst = (found.overlap.mean, change, name)
    if worst is None:
        return None
    kind: Kind = "strong" if worst[0] >= STAYS else "weak" if worst[0] < HANGS else "level"
    return kind, f"at least {worst[0]:.2f} of a list stays ({worst[1]}, {worst[2]})."


def _chance(data: Mapping[str, DataResult]) -> tuple[Kind, str] | None:
    """Conventional arms on cold items: can the reference be told from chance?"""
    near = total = 0
    for one in data.values():
        found = one.arms[one.reference].figures.get("cold_among_cold", {}) if one.reference else {}
        estimate = next(iter(found.values()), None)
        if estimate is None or estimate.lo is None or one.chance_among_cold is None:
            continue
        total += 1
        near += estimate.lo <= one.chance_among_cold
    if not total:
        return None
    kind: Kind = "weak" if near * 2 >= total else "level"
    return kind, f"the reference is not above chance on {near} of {total} data set{'s' if total != 1 else ''}."
