"""A study's figures as Markdown: one table per question, a row per arm, a column per data set."""

from __future__ import annotations

from collections.abc import Callable

from koinon.studies.paradigms.findings import short, verdict
from koinon.studies.paradigms.results import ArmResult, DataResult, StudyResults

__all__ = ["markdown"]

NONE = "–"
MARKS = {"better": " **+**", "worse": " −", "same": ""}

Cell = Callable[[str, DataResult], str]


def markdown(results: StudyResults) -> str:
    """All tables, each under its title; an arm without a figure for a question is not in its table.

    NDCG is the mean over people with its 95 % interval, marked against the data set's reference after Holm.
    """
    k = results.settings["k"]
    metric = f"ndcg@{k}"
    head = f"NDCG@{k}"
    asked: list[tuple[str, str, Cell]] = [
        ("Everybody, whole catalogue", head, _ranking("all", metric)),
        ("Items nobody has taken, among themselves", head, _ranking("cold_among_cold", metric)),
        ("Rarely taken items", head, _ranking("long_tail", metric)),
        ("Strangers with one event", head, _ranking("stranger_1", metric)),
        ("Clicks", "AUC · GAUC · log loss", _clicks),
        ("Lists", "coverage · novelty (bits) · diversity", _of_arm(lambda arm: _lists(arm, k))),
        (
            "Other words",
            "share of a list that stays (change of NDCG): paraphrased · translated",
            _of_arm(_reworded),
        ),
        (
            "Cost",
            "processor seconds of a fit · peak MiB · ms of a request (median) · MB sent per round",
            _of_arm(_cost),
        ),
        ("Seeds", f"seeds · spread of {head} over them (standard deviation)", _of_arm(_seeds)),
    ]
    parts = [_table(results, title, heading, cell) for title, heading, cell in asked]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(results: StudyResults, title: str, heading: str, cell: Cell) -> str:
    """One table; empty where no arm has a figure."""
    rows = [
        (about.title, [cell(arm, one) if arm in one.arms else NONE for one in results.data.values()])
        for arm, about in results.arms.items()
    ]
    rows = [(name, cells) for name, cells in rows if any(one != NONE for one in cells)]
    if not rows:
        return ""
    if title.startswith("Items nobody has taken"):
        rows.append(("*by chance*", [_number(one.chance_among_cold) for one in results.data.values()]))
    lines = [f"| {heading} | {' | '.join(results.data)} |", "|---|" + "---:|" * len(results.data)]
    lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in rows]
    return f"**{title}**\n\n" + "\n".join(lines)


def _of_arm(said: Callable[[ArmResult], str]) -> Cell:
    return lambda arm, one: said(one.arms[arm])


def _ranking(part: str, metric: str) -> Cell:
    def cell(arm: str, one: DataResult) -> str:
        found = one.arms[arm].figures.get(part, {}).get(metric)
        if found is None or found.mean is None:
            return NONE
        mark = " ref" if arm == one.reference else MARKS[verdict(one.arms[arm].gains.get(part))]
        span = "" if found.lo is None or found.hi is None else f" [{_number(found.lo, 3)}, {_number(found.hi, 3)}]"
        return f"{_number(found.mean)}{span}{mark}"

    return cell


def _clicks(arm: str, one: DataResult) -> str:
    clicks = one.arms[arm].clicks
    if clicks is None:
        return NONE
    mark = " ref" if arm == one.click_reference else MARKS[verdict(clicks.gains.get("auc"))]
    found = [clicks.figures.get(name) for name in ("auc", "gauc", "log_loss")]
    return " · ".join(_number(None if value is None else value.mean) for value in found) + mark


def _lists(arm: ArmResult, k: object) -> str:
    values = [arm.lists.get(f"{name}@{k}") for name in ("coverage", "novelty", "diversity")]
    if values[0] is None:
        return NONE
    if arm.sampled:
        values[0] = None  # the lists of a sample of people show less of a catalogue, whatever they hold
    return " · ".join(NONE if value is None else f"{value:.{n}f}" for value, n in zip(values, (2, 1, 2), strict=True))


def _reworded(arm: ArmResult) -> str:
    said = []
    for change in ("paraphrased", "translated"):
        found = arm.reworded.get(change)
        if found is not None and found.overlap.mean is not None:
            said.append(f"{found.overlap.mean:.2f} ({(found.ndcg.relative or 0) * 100:+.0f} %)")
    return " · ".join(said) or NONE


def _cost(arm: ArmResult) -> str:
    cost = arm.cost
    if cost.fit_seconds is None or cost.p50_ms is None:
        return NONE
    peak = NONE if cost.peak_mb is None else f"{cost.peak_mb:,.0f}"
    sent = "" if cost.bytes_per_round is None else f" · {short(cost.bytes_per_round / 1e6)}"
    return f"{short(cost.fit_seconds)} · {peak} · {short(cost.p50_ms)}{sent}"


def _seeds(arm: ArmResult) -> str:
    return NONE if arm.seed_deviation is None else f"{len(arm.seeds)} · {_number(arm.seed_deviation)}"


def _number(value: float | None, places: int = 4) -> str:
    """Without the zero before the point."""
    if value is None:
        return NONE
    said = f"{value:.{places}f}"
    return said.replace("0.", ".", 1) if said.lstrip("-").startswith("0.") else said
