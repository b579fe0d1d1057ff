"""From results to what the page says and draws: every number formatted, every picture drawn, nothing computed anew."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from koinon.studies.report.contents import Sample, SpaceMap
from koinon.studies.report.drawing import curve_chart, dot_row, gain_bar, nice_limit
from koinon.studies.report.results import ARMS, SLICES, Curve, Gain, GroupRow, Partner, Results
from koinon.studies.report.words import DASH, cell, figure, percent, size

__all__ = ["ARM_NAMES", "build_view"]

ARM_NAMES = {
    "local": "local",
    "local_space": "local + space",
    "federated_gram": "federated sums",
    "federated_adapters": "federated adapters",
    "federated": "federated",
    "pooled": "pooled",
}
ARM_MEANINGS = {
    "local": "The best of popularity, ItemKNN and EASE that the partner can tune alone, on ids.",
    "local_space": "The same with the texts' meaning as a prior, still alone: the frozen encoder, no federation.",
    "federated_gram": "Co-occurrence sums over pairs agreed in advance, added up by the server, solved at home.",
    "federated_adapters": "Maps over the space trained in federated rounds; items and users' parts stay private.",
    "federated": "What the partner would deploy: the arm its own validation chose.",
    "pooled": "A bound nobody may reach by lawful means: the best recommender on the raw joined data.",
}
SLICE_NAMES = {
    "all": "everybody",
    "cold_items": "items nobody has taken yet",
    "cold_among_cold": "among such items only",
    "cold_users": "people hardly seen",
    "long_tail": "rarely taken items",
    "known_elsewhere": "people known at another partner",
}
COMPARISONS = {"federated_vs_local": "gain over local", "federated_vs_local_space": "gain over local + space"}
LANGUAGES = {
    "en": "English", "de": "German", "fr": "French", "es": "Spanish", "it": "Italian", "pt": "Portuguese",
    "nl": "Dutch", "ja": "Japanese", "zh": "Chinese", "ko": "Korean", "ru": "Russian", "pl": "Polish", "tr": "Turkish",
    "ar": "Arabic", "th": "Thai", "mul": "several languages",
}  # fmt: skip
_METRICS = ("ndcg@10", "recall@10", "mrr@10")


def build_view(results: Results, space_map: SpaceMap | None, samples: Sequence[Sample]) -> dict[str, Any]:
    """Everything the template names, in the order of the page."""
    order = list(results.partners)
    arms = [arm for arm in ARMS if any(arm in p.arms for p in results.partners.values())]
    slices = [s for s in SLICES if any(s in figures for p in results.partners.values() for figures in p.arms.values())]
    axes = {key: _axis(results, key, "all") for key in COMPARISONS}
    drawn = _map(space_map, order) if space_map is not None and len(space_map.title) else None
    first, _, rest = results.summary.headline.partition(". ")
    return {
        "results": results,
        "headline": {"first": first if first.endswith(".") else first + ".", "rest": rest},
        "key_figures": _key_figures(results),
        "arms": [{"key": arm, "name": ARM_NAMES[arm], "meaning": ARM_MEANINGS[arm]} for arm in arms],
        "arm_names": ARM_NAMES,
        "slices": [{"key": key, "name": SLICE_NAMES[key]} for key in slices],
        "metrics": _METRICS,
        "comparisons": [
            {"key": key, "name": name, "limit_text": f"{percent(-axes[key][0], 0)} to {percent(axes[key][1], 0)}"}
            for key, name in COMPARISONS.items()
        ],
        "rows": [_row(name, results.partners[name], arms, axes) for name in order],
        "aims": results.summary.aims,
        "curves": _curves(results.learning_curves, order),
        "curve_legend": _curve_legend(results.learning_curves),
        "map": drawn,
        "colours": {
            "partner": _colours(order),
            "language": _colours(drawn["languages"] if drawn else [], _BY_LANGUAGE),
        },
        "samples": samples,
        "cold": _cold(results, arms),
        "groups": _groups(results.groups, order),
        "egress": _egress(results),
        "federation": _federation(results),
        "timings": [(step.replace("_", " "), seconds) for step, seconds in results.timings.items()],
        "total_seconds": sum(results.timings.values()),
        "caps_note": _caps_note(results),
        "machine": [(key.replace("_", " "), value) for key, value in results.machine.items()],
        "versions": list(results.versions.items()),
        "settings": json.dumps(results.settings, indent=2, ensure_ascii=False),
        "data": _table_data(results, arms, slices) | _map_data(drawn, order),
    }


_COLOURS = 12
_BY_LANGUAGE = (2, 7, 8, 9, 4, 1, 5, 10, 6, 0, 3, 11)


def _colours(names: Sequence[str], order: Sequence[int] = tuple(range(_COLOURS))) -> list[int]:
    """Colour numbers of the style sheet's palette, one per name; they repeat after twelve."""
    return [order[index % _COLOURS] for index in range(len(names))]


def _map_data(drawn: dict[str, Any] | None, order: Sequence[str]) -> dict[str, Any]:
    if drawn is None:
        return {}
    names = {"partner": drawn["partners"], "language": drawn["languages"]}
    colours = {"partner": [order.index(name) % _COLOURS for name in drawn["partners"]]}
    colours["language"] = _colours(drawn["languages"], _BY_LANGUAGE)
    return {"points": drawn["points"], "names": names, "colours": colours}


def _federation(results: Results) -> str:
    ran = results.federation
    how = "simulated on one machine" if ran.mode == "simulation" else "with one process per partner"
    rounds = ", ".join(f"{count} of {ARM_NAMES.get(name, name)}" for name, count in ran.rounds.items())
    said = [f"The federation ran {how}; rounds: {rounds or 'none'}; {size(ran.bytes)} left the partners in all."]
    if ran.overhead_seconds is not None:
        said.append(f"Time of rounds not spent in partners' training: {ran.overhead_seconds:,.1f} s.")
    for partner, missed in ran.vanished.items():
        said.append(f"{partner} did not answer in {', '.join(missed)}; the federation went on with the rest.")
    return " ".join(said)


def _caps_note(results: Results) -> str:
    caps = [f"{name.replace('_', ' ')} {value:,}" for name, value in results.caps.items() if value is not None]
    return f" (caps: {', '.join(caps)}; lifted by --full)" if caps else ""


def _key_figures(results: Results) -> list[tuple[str, str]]:
    partners = results.partners.values()
    summary = results.summary
    people = sum(p.counts.users for p in partners)
    languages = {p.language for p in partners}
    return [
        (str(len(results.partners)), f"partners, {len(languages)} languages, {people:,} people"),
        (percent(summary.relative_gain.get("federated_vs_local"), 0), "NDCG@10 over each partner alone, on average"),
        (
            percent(summary.relative_gain.get("federated_vs_local_space"), 1),
            "over each partner alone with the same encoder",
        ),
        (str(len(summary.harmed)), "partners harmed" if len(summary.harmed) != 1 else "partner harmed"),
    ]


def _axis(results: Results, key: str, slice_: str) -> tuple[float, float]:
    """How far the axis reaches below and above zero: every gain whole, intervals within reason."""
    below, above = 0.02, 0.05
    for partner in results.partners.values():
        gain = partner.gains.get(key, {}).get(slice_)
        if gain is None or gain.relative is None:
            continue
        ends = [
            gain.relative,
            *(min(max(end, -0.6), 0.6) for end in (gain.relative_lo, gain.relative_hi) if end is not None),
        ]
        below, above = max(below, -min(ends)), max(above, *ends)
    return nice_limit(min(below, 1.0)), nice_limit(min(above, 2.0))


def _tone(gain: Gain | None) -> str:
    """``up`` or ``down`` when the corrected p-value is clear, ``even`` otherwise."""
    if gain is None or gain.p_holm is None or gain.p_holm >= 0.05 or not gain.mean:
        return "even"
    return "up" if gain.mean > 0 else "down"


def _gain_cell(name: str, key: str, gain: Gain | None, axis: tuple[float, float]) -> dict[str, Any]:
    tone = _tone(gain)
    if gain is None:
        return {"text": DASH, "svg": "", "tone": tone, "sort": -9.0, "title": "not measured"}
    low, high = gain.relative_lo, gain.relative_hi
    words = {"up": "clear gain", "down": "clear loss", "even": "no clear difference"}[tone]
    span = f", interval {percent(low)} to {percent(high)}" if low is not None else ""
    p = "" if gain.p_holm is None else f", p = {gain.p_holm:.3f} after Holm"
    label = f"{name}, {COMPARISONS[key]}: {percent(gain.relative)}{span}{p}; {words}; {gain.n:,} people"
    return {
        "text": percent(gain.relative),
        "svg": gain_bar(gain.relative, low, high, axis=axis, label=label, tone=tone),
        "tone": tone,
        "sort": gain.relative if gain.relative is not None else -9.0,
        "title": label,
    }


def _row(name: str, partner: Partner, arms: Sequence[str], axes: dict[str, tuple[float, float]]) -> dict[str, Any]:
    where = f", {partner.region}" if partner.region else ""
    return {
        "name": name,
        "about": f"{partner.domain}{where} · {LANGUAGES.get(partner.language, partner.language)}",
        "counts": partner.counts,
        "people": f"{partner.counts.test_users:,}",
        "best": _best(partner, arms),
        "protocol": partner.protocol,
        "chosen": partner.chosen,
        "harmed": partner.harmed,
        "cells": {arm: cell(partner.arms.get(arm, {}).get("all", {}).get("ndcg@10")) for arm in arms},
        "gains": {
            key: _gain_cell(name, key, partner.gains.get(key, {}).get("all"), axis) for key, axis in axes.items()
        },
    }


def _best(partner: Partner, arms: Sequence[str]) -> str | None:
    """The highest arm a partner can lawfully have: pooled does not count."""
    means = {
        arm: estimate.mean
        for arm in arms
        if arm != "pooled"
        and (estimate := partner.arms.get(arm, {}).get("all", {}).get("ndcg@10")) is not None
        and estimate.mean is not None
    }
    return max(means, key=lambda arm: means[arm]) if means else None


def _table_data(results: Results, arms: Sequence[str], slices: Sequence[str]) -> dict[str, Any]:
    """Cells for every slice and metric, for the page's two menus: ``cells[slice][metric][partner][arm]``."""
    cells: dict[str, Any] = {}
    gains: dict[str, Any] = {}
    for slice_ in slices:
        cells[slice_] = {
            metric: {
                name: {arm: cell(partner.arms.get(arm, {}).get(slice_, {}).get(metric)) for arm in arms}
                for name, partner in results.partners.items()
            }
            for metric in _METRICS
        }
        axes = {key: _axis(results, key, slice_) for key in COMPARISONS}
        gains[slice_] = {
            name: {key: _gain_cell(name, key, p.gains.get(key, {}).get(slice_), axes[key]) for key in COMPARISONS}
            for name, p in results.partners.items()
        }
    people = {
        slice_: {
            name: next((e["ndcg@10"].n for a in p.arms.values() if (e := a.get(slice_)) and "ndcg@10" in e), 0)
            for name, p in results.partners.items()
        }
        for slice_ in slices
    }
    return {"cells": cells, "gains": gains, "people": people}


def _curves(curves: Sequence[Curve], order: Sequence[str]) -> list[dict[str, str]]:
    charts = []
    for name in order:
        mine = [curve for curve in curves if curve.partner == name]
        lines = {
            curve.recommender: [(float(r), v) for r, v in zip(curve.rounds, curve.values, strict=True) if v is not None]
            for curve in mine
        }
        references = {arm: level for curve in mine for arm, level in curve.references.items()}
        said = "; ".join(
            f"{ARM_NAMES.get(arm, arm)} from {figure(points[0][1])} to {figure(points[-1][1])}"
            for arm, points in lines.items()
            if points
        )
        svg = curve_chart(lines, references, label=f"{name}: validation NDCG@10 by round; {said}", names=ARM_NAMES)
        if svg:
            charts.append({"name": name, "svg": svg})
    return charts


def _curve_legend(curves: Sequence[Curve]) -> list[dict[str, str]]:
    drawn = dict.fromkeys(curve.recommender for curve in curves)
    levels = dict.fromkeys(arm for curve in curves for arm in curve.references)
    return [{"key": arm, "name": ARM_NAMES.get(arm, arm), "kind": "line"} for arm in drawn] + [
        {"key": arm, "name": f"{ARM_NAMES.get(arm, arm)} (does not depend on rounds)", "kind": "level"}
        for arm in levels
    ]


def _map(space_map: SpaceMap, order: Sequence[str]) -> dict[str, Any]:
    """Points scaled to a 1000 × 640 sheet and drawn as one path per partner and language."""
    low, high = space_map.xy.min(axis=0), space_map.xy.max(axis=0)
    scaled = (space_map.xy - low) / [max(span, 1e-9) for span in (high - low).tolist()] * [972.0, 612.0] + 14.0
    xy = scaled.round().astype(int).tolist()
    partners = [name for name in order if name in set(space_map.partner)]
    languages = list(dict.fromkeys(space_map.language))
    paths: dict[tuple[int, int], list[str]] = {}
    points = []
    for (x, y), partner, language, title in zip(
        xy, space_map.partner, space_map.language, space_map.title, strict=True
    ):
        key = (partners.index(partner), languages.index(language))
        paths.setdefault(key, []).append(f"M{x} {y}h0")
        points.append([x, y, *key, title])
    return {
        "paths": [{"partner": p, "language": la, "d": "".join(d)} for (p, la), d in sorted(paths.items())],
        "points": points,
        "partners": partners,
        "languages": [LANGUAGES.get(code, code) for code in languages],
        "method": space_map.method,
        "count": len(points),
    }


def _cold(results: Results, arms: Sequence[str]) -> list[dict[str, Any]]:
    rows = []
    for name, partner in results.partners.items():
        cells = {arm: partner.arms[arm]["cold_among_cold"].get("ndcg@10") for arm in arms if _has_cold(partner, arm)}
        whole = {
            arm: partner.arms[arm]["cold_items"].get("ndcg@10")
            for arm in arms
            if "cold_items" in partner.arms.get(arm, {})
        }
        people = next((cell.n for cell in cells.values() if cell is not None), 0)
        if not people:
            continue
        rows.append(
            {
                "name": name,
                "items": partner.counts.cold_items,
                "people": people,
                "random": figure(partner.random_among_cold),
                "cells": {arm: cell(cells.get(arm)) for arm in arms},
                "whole": {arm: cell(whole.get(arm)) for arm in arms},
            }
        )
    return rows


def _has_cold(partner: Partner, arm: str) -> bool:
    return "cold_among_cold" in partner.arms.get(arm, {})


_GROUP_ARMS = ("local", "local_space", "federated")


def _groups(rows: Sequence[GroupRow], order: Sequence[str]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Attribute to its partners' tables."""
    found = []
    attributes = list(dict.fromkeys(row.attribute for row in rows))
    for attribute in attributes:
        tables: list[dict[str, Any]] = []
        for name in order:
            mine = [row for row in rows if row.partner == name and row.attribute == attribute]
            if not mine:
                continue
            reach = [e.hi or e.mean or 0.0 for row in mine for arm, e in row.arms.items() if arm in _GROUP_ARMS]
            high = nice_limit(max([*reach, 0.001]))
            tables.append(
                {
                    "partner": name,
                    "high": figure(high, 2),
                    "rows": [_group_row(row, high) for row in mine],
                    "gap": _gap(mine),
                }
            )
        found.append((attribute.replace("_", " "), tables))
    return found


def _group_row(row: GroupRow, high: float) -> dict[str, Any]:
    dots = {
        arm: (e.mean, e.lo, e.hi) for arm in _GROUP_ARMS if (e := row.arms.get(arm)) is not None and e.mean is not None
    }
    said = ", ".join(f"{ARM_NAMES[arm]} {figure(mean)}" for arm, (mean, _, _) in dots.items())
    return {
        "group": row.group,
        "n": "" if row.n is None else f"{row.n:,}",
        "suppressed": row.suppressed,
        "svg": "" if row.suppressed else dot_row(dots, low=0.0, high=high, label=f"{row.group}: {said}"),
        "cells": {arm: cell(row.arms.get(arm)) for arm in _GROUP_ARMS},
    }


def _gap(rows: Sequence[GroupRow]) -> str:
    """Largest difference between two groups that are shown, for ``local_space`` and ``federated``."""
    gaps = []
    for arm in ("local_space", "federated"):
        means = [e.mean for row in rows if (e := row.arms.get(arm)) is not None and e.mean is not None]
        if len(means) > 1:
            gaps.append(f"{figure(max(means) - min(means))} ({ARM_NAMES[arm]})")
    return " → ".join(gaps)


def _egress(results: Results) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "messages": f"{crossing.messages:,}",
            "count": crossing.messages,
            "bytes": size(crossing.bytes),
            "sort": crossing.bytes,
            "kinds": ", ".join(f"{kind} {size(count)}" for kind, count in sorted(crossing.kinds.items())),
        }
        for name, crossing in results.federation.egress.items()
    ]
