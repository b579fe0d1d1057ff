"""From results to what the page says and draws: every number formatted, every picture drawn, nothing computed anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from koinon.recommenders.fusion.place import PLACES
from koinon.studies.paradigms.arms import PARADIGMS
from koinon.studies.paradigms.criteria import CRITERIA
from koinon.studies.paradigms.findings import verdict
from koinon.studies.paradigms.results import ArmResult, DataResult, StudyResults
from koinon.studies.paradigms.scatter import Point, scatter
from koinon.studies.report.results import Estimate, Gain
from koinon.studies.report.words import DASH, cell, figure, percent, size

__all__ = ["build_view"]

MARKS = {"better": "+", "worse": "\u2212", "same": "="}
TONES = {paradigm: f"p{number}" for number, paradigm in enumerate(PARADIGMS)}
PROTOCOLS = {
    "time": "by time",
    "holdout": "one event of each person held out",
    "leave-last-out": "each person's last event held out",
}
WORDINGS = {"paraphrased": "paraphrased", "translated": "translated"}
Reader = Callable[[ArmResult], Estimate | None]


def build_view(results: StudyResults) -> dict[str, Any]:
    """Everything the template names, in the order of the page."""
    k = int(str(results.settings["k"]))
    shown = [name for name in results.arms if any(name in one.arms for one in results.data.values())]
    return {
        "results": results,
        "k": k,
        "headline": _headline(results),
        "keys": _keys(results, shown),
        "paradigms": [(paradigm, TONES[paradigm]) for paradigm in PARADIGMS if _has(results, shown, paradigm)],
        "data": [_about(name, one, results) for name, one in results.data.items()],
        "accuracy": [
            _matrix(results, shown, f"NDCG@{k}", _slice("all", f"ndcg@{k}"), "all"),
            _matrix(results, shown, f"HR@{k}", _slice("all", f"hr@{k}"), None),
            _matrix(results, shown, f"recall@{k}", _slice("all", f"recall@{k}"), None),
        ],
        "clicks": [
            _matrix(results, shown, title, _clicks(metric), f"clicks:{metric}")
            for metric, title in (("auc", "AUC"), ("gauc", "GAUC"), ("log_loss", "log loss"))
        ],
        "cold": [
            _matrix(results, shown, f"NDCG@{k} among cold items", _slice("cold_among_cold", f"ndcg@{k}"),
                    "cold_among_cold", chance=True),
            _matrix(results, shown, f"NDCG@{k} of cold items, whole catalogue", _slice("cold_items", f"ndcg@{k}"),
                    "cold_items"),
        ],
        "strangers": [
            _matrix(results, shown, f"NDCG@{k}, {events} event{'s' * (events > 1)}",
                    _slice(f"stranger_{events}", f"ndcg@{k}"), f"stranger_{events}")
            for events in (1, 3, 5)
        ] + [_matrix(results, shown, f"NDCG@{k}, people with at most two events", _slice("cold_users", f"ndcg@{k}"),
                     "cold_users")],
        "tail": [_matrix(results, shown, f"NDCG@{k}", _slice("long_tail", f"ndcg@{k}"), "long_tail")],
        "lists": [
            _plain(results, shown, title, _list_figure(key), digits)
            for key, title, digits in (
                (f"diversity@{k}", "diversity", 3), (f"novelty@{k}", "novelty, bits", 2),
                (f"coverage@{k}", "coverage of the catalogue", 3), (f"gini@{k}", "Gini of what is shown", 3),
                (f"miscalibration@{k}", "miscalibration", 3),
            )
        ],
        "reworded": [_reworded(results, shown, change) for change in WORDINGS],
        "costs": [_costs(name, one, results) for name, one in results.data.items()],
        "scatters": [_scatter(name, one, results, k) for name, one in results.data.items()],
        "map": _map(results),
        "findings": _findings(results),
        "missing": _missing(results),
        "criteria": CRITERIA,
        "machine": [(key.replace("_", " "), value) for key, value in results.machine.items()],
        "versions": list(results.versions.items()),
        "settings": [(key.replace("_", " "), _said(value)) for key, value in results.settings.items()],
    }  # fmt: skip


def _headline(results: StudyResults) -> dict[str, str]:
    ahead: dict[str, list[str]] = {}
    for name, one in results.data.items():
        able = [arm for arm in one.arms if results.arms[arm].paradigm != "conventional"]
        winners = [arm for arm in able if verdict(one.arms[arm].gains.get("all")) == "better"]
        if winners:
            best = max(winners, key=lambda arm: one.arms[arm].gains["all"].mean or 0.0)
            ahead[name] = [results.arms[best].title]
    total = len(results.data)
    some = f"{len(ahead)} of {total}" if total > 1 else ("this" if ahead else "no")
    sets = f"data set{'s' if total > 1 else ''}"
    first = f"On {some} {sets} a language model or a federation beats the conventional reference"
    if not ahead:
        first = "Over everybody, nothing beats the conventional reference beyond doubt"
    rest = "; ".join(f"{name}: {', '.join(arms)}" for name, arms in ahead.items())
    return {
        "first": f"{first}.",
        "rest": f"Ahead of the conventional recommender that was best on validation, beyond chance: {rest}."
        if rest
        else "",
    }


def _keys(results: StudyResults, shown: Sequence[str]) -> list[tuple[str, str]]:
    runs = sum(len(arm.seeds) for one in results.data.values() for arm in one.arms.values())
    people = sum(one.test_users for one in results.data.values())
    cold = [
        max((arm.figures["cold_among_cold"][key].mean or 0.0) for arm in one.arms.values() for key in
            list(arm.figures.get("cold_among_cold", {}))[:1]) / one.chance_among_cold
        for one in results.data.values()
        if one.chance_among_cold and any(arm.figures.get("cold_among_cold") for arm in one.arms.values())
    ]  # fmt: skip
    found = [
        (str(len(shown)), f"recommenders that ran, {len(results.data)} data sets"),
        (str(runs), "trainings, each with its own time and memory"),
        (f"{people:,}", "people asked about"),
    ]
    if cold:
        found.append((f"{min(cold):.1f}\u2013{max(cold):.1f}\u00d7", "chance: the best among items nobody has taken"))
    return found


def _about(name: str, one: DataResult, results: StudyResults) -> dict[str, str]:
    reference = results.arms[one.reference].title if one.reference else DASH
    return {
        "name": name,
        "protocol": PROTOCOLS[one.protocol],
        "users": f"{one.users:,}",
        "catalogue": f"{one.items:,}",
        "events": f"{one.events:,}",
        "asked": f"{one.test_users:,}",
        "cold": f"{one.cold_items:,}",
        "reference": reference,
        "clicks": results.arms[one.click_reference].title if one.click_reference else DASH,
    }


def _slice(part: str, metric: str) -> Reader:
    return lambda arm: arm.figures.get(part, {}).get(metric)


def _clicks(metric: str) -> Reader:
    return lambda arm: None if arm.clicks is None else arm.clicks.figures[metric]


def _list_figure(key: str) -> Callable[[ArmResult], float | None]:
    """Of what all lists show together, nothing is said where a sample of people was asked."""
    together = key.startswith(("coverage", "gini"))
    return lambda arm: None if together and arm.sampled else arm.lists.get(key)


def _matrix(
    results: StudyResults, shown: Sequence[str], title: str, read: Reader, compared: str | None, *, chance: bool = False
) -> dict[str, Any] | None:
    """Arms by data sets: mean, interval, and the verdict of its test; ``None`` where nobody was asked."""
    rows = []
    best = {name: _best(one, read, lower=title == "log loss") for name, one in results.data.items()}
    for arm in shown:
        cells = []
        for name, one in results.data.items():
            result = one.arms.get(arm)
            found = None if result is None else read(result)
            if result is None or found is None or found.mean is None:
                cells.append(_cell(title=one.not_run.get(arm, "")))
                continue
            base = one.click_reference if compared and compared.startswith("clicks") else one.reference
            gain = _gain_of(result, compared)
            told = verdict(gain)
            mark = "" if compared is None else "ref" if arm == base else MARKS[told] if gain is not None else ""
            if title == "log loss" and mark in ("+", MARKS["worse"]):
                told, mark = ("worse", MARKS["worse"]) if mark == "+" else ("better", "+")
            sampled = f" {found.n:,} people" if result.sampled else ""
            seeds = f", {len(result.seeds)} seeds" if len(result.seeds) > 1 else ""
            cells.append(
                cell(found)
                | {
                    "mark": mark,
                    "title": _gain_words(gain) + sampled + seeds,
                    "note": sampled.strip(),
                    "class": f"{told if mark in MARKS.values() else ''}{' best' if best[name] == arm else ''}",
                }
            )
        if any(one["mean"] != DASH for one in cells):
            about = results.arms[arm]
            rows.append({"arm": about.title, "tone": _tone(results, arm), "about": about.about, "cells": cells})
    if not rows:
        return None
    row = [figure(one.chance_among_cold) for one in results.data.values()] if chance else None
    return {"title": title, "columns": list(results.data), "rows": rows, "chance": row}


def _cell(mean: str = DASH, span: str = "", *, title: str = "", tone: str = "") -> dict[str, Any]:
    return {"mean": mean, "span": span, "mark": "", "note": "", "title": title, "class": tone}


def _best(one: DataResult, read: Reader, *, lower: bool) -> str | None:
    """The best arm, of those that were asked about everybody."""
    values = {
        name: found.mean
        for name, arm in one.arms.items()
        if not arm.sampled and (found := read(arm)) is not None and found.mean is not None
    }
    if not values:
        return None
    return (min if lower else max)(values, key=lambda name: values[name])


def _gain_of(arm: ArmResult, compared: str | None) -> Gain | None:
    if compared is None:
        return None
    if compared.startswith("clicks:"):
        return None if arm.clicks is None else arm.clicks.gains.get(compared.removeprefix("clicks:"))
    return arm.gains.get(compared)


def _gain_words(gain: Gain | None) -> str:
    if gain is None or gain.mean is None:
        return ""
    relative = "" if gain.relative is None else f", {percent(gain.relative)}"
    return f"{figure(gain.mean)} ({figure(gain.lo)} to {figure(gain.hi)}){relative}, Holm p {gain.p_holm or 0:.3f}"


def _plain(
    results: StudyResults, shown: Sequence[str], title: str, read: Callable[[ArmResult], float | None], digits: int
) -> dict[str, Any] | None:
    rows = []
    for arm in shown:
        values = [None if (one := data.arms.get(arm)) is None else read(one) for data in results.data.values()]
        if any(value is not None for value in values):
            about = results.arms[arm]
            cells = [_cell(figure(value, digits)) for value in values]
            rows.append({"arm": about.title, "tone": _tone(results, arm), "about": about.about, "cells": cells})
    return {"title": title, "columns": list(results.data), "rows": rows, "chance": None} if rows else None


def _reworded(results: StudyResults, shown: Sequence[str], change: str) -> dict[str, Any] | None:
    rows = []
    for arm in shown:
        cells = []
        for one in results.data.values():
            found = one.arms[arm].reworded.get(change) if arm in one.arms else None
            if found is None:
                cells.append(_cell())
                continue
            shift = found.ndcg
            told = "same" if shift.p is None or shift.p >= 0.05 else "better" if (shift.mean or 0) > 0 else "worse"
            cells.append(
                _cell(
                    figure(found.overlap.mean, 2),
                    f"NDCG {percent(shift.relative)}, words {percent(found.words, 0).lstrip('+')}",
                    title=f"items changed {percent(found.changed, 0)}; NDCG {_gain_words(shift)}",
                    tone=told if told != "same" else "",
                )
            )
        if any(one["mean"] != DASH for one in cells):
            about = results.arms[arm]
            rows.append({"arm": about.title, "tone": _tone(results, arm), "about": about.about, "cells": cells})
    title = f"{WORDINGS[change]}: share of a list that stays"
    return {"title": title, "columns": list(results.data), "rows": rows, "chance": None} if rows else None


def _costs(name: str, one: DataResult, results: StudyResults) -> dict[str, Any]:
    rows = []
    for arm, found in one.arms.items():
        cost = found.cost
        extra = cost.peak_mb - cost.begun_mb if cost.peak_mb is not None and cost.begun_mb is not None else None
        rows.append(
            {
                "arm": results.arms[arm].title,
                "tone": _tone(results, arm),
                "cells": [
                    _seconds(cost.fit_seconds),
                    _seconds(cost.search_seconds),
                    DASH if cost.peak_mb is None else f"{cost.peak_mb:,.0f}",
                    DASH if extra is None else f"{max(extra, 0):,.0f}",
                    DASH if cost.p50_ms is None else f"{cost.p50_ms:,.1f} / {cost.p95_ms or 0:,.1f}",
                    DASH if cost.parameters is None else f"{cost.parameters:,}",
                    DASH if cost.bytes_per_round is None else size(cost.bytes_per_round),
                    found.settings_from or DASH,
                    DASH if found.seed_deviation is None else f"{found.seed_deviation:.4f}",
                ],
            }
        )
    return {"name": name, "rows": rows}


def _scatter(name: str, one: DataResult, results: StudyResults, k: int) -> dict[str, str]:
    points = []
    for arm, found in one.arms.items():
        figures = found.figures.get("all", {}).get(f"ndcg@{k}")
        seconds = found.cost.fit_seconds
        if figures is None or figures.mean is None or seconds is None or found.sampled:
            continue
        title = results.arms[arm].title
        points.append(Point(title, _tone(results, arm), max(seconds, 1e-3), figures.mean, figures.lo, figures.hi))
    label = f"{name}: NDCG@{k} against processor seconds to fit; " + "; ".join(
        f"{point.name} {point.quality:.4f} in {point.cost:.3g} s" for point in points
    )
    svg = scatter(points, label=label, cost="processor seconds of one fit", quality=f"NDCG@{k}, 95 % interval")
    return {"name": name, "svg": svg}


def _map(results: StudyResults) -> dict[str, Any]:
    """WHERE by HOW; each arm with its relative gain over the reference on every data set."""
    columns = [
        ("frozen, with a conventional model", False, True),
        ("frozen, alone", False, False),
        ("tuned, with a conventional model", True, True),
        ("tuned, alone", True, False),
    ]
    rows = []
    for where in PLACES:
        cells = []
        for _, tuned, conventional in columns:
            inside = []
            for arm in results.arms:
                about = results.arms[arm]
                if (about.where, about.tuned, about.with_conventional) != (where, tuned, conventional):
                    continue
                inside.append({"arm": about.title, "tone": _tone(results, arm), "figures": _map_figures(results, arm)})
            cells.append(inside)
        rows.append({"where": where, "cells": cells})
    return {"columns": [title for title, _, _ in columns], "rows": rows}


def _map_figures(results: StudyResults, arm: str) -> list[tuple[str, str, str]]:
    figures: list[tuple[str, str, str]] = []
    for name, one in results.data.items():
        found = one.arms.get(arm)
        if found is None:
            continue
        gain = found.gains.get("all")
        if gain is not None and gain.relative is not None:
            told = verdict(gain)
            figures.append((name, f"{percent(gain.relative, 0)} {MARKS[told]}", told))
        elif found.clicks is not None and "auc" in found.clicks.gains:
            told = verdict(found.clicks.gains["auc"])
            figures.append((name, f"AUC {figure(found.clicks.gains['auc'].mean)} {MARKS[told]}", told))
    return figures


def _findings(results: StudyResults) -> list[dict[str, Any]]:
    found = []
    for paradigm in PARADIGMS:
        own = [one for one in results.findings if one.paradigm == paradigm]
        if own:
            kinds = [(kind, [one for one in own if one.kind == kind]) for kind in ("strong", "weak", "level")]
            found.append({"paradigm": paradigm, "tone": TONES[paradigm], "kinds": [pair for pair in kinds if pair[1]]})
    return found


def _missing(results: StudyResults) -> list[dict[str, str]]:
    """Arms and reasons, with the data sets a reason holds on."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for name, one in results.data.items():
        for arm, reason in one.not_run.items():
            reasons.setdefault((arm, reason), []).append(name)
    everywhere = len(results.data)
    return [
        {
            "arm": results.arms[arm].title,
            "reason": reason,
            "data": "all data sets" if len(names) == everywhere > 1 else ", ".join(names),
        }
        for (arm, reason), names in reasons.items()
    ]


def _has(results: StudyResults, shown: Sequence[str], paradigm: str) -> bool:
    return any(results.arms[arm].paradigm == paradigm for arm in shown)


def _tone(results: StudyResults, arm: str) -> str:
    return next((tone for paradigm, tone in TONES.items() if paradigm == results.arms[arm].paradigm), "p0")


def _seconds(value: float | None) -> str:
    if value is None:
        return DASH
    return f"{value:,.2f}" if value < 10 else f"{value:,.0f}"


def _said(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(str(one) for one in value) or "all"
    return "none" if value is None else str(value)
