"""Rows of the report's tables: questions, comparisons, groups, items, partners."""

from __future__ import annotations

from typing import Any

from koinon.fairness.drawing import interval, mean_on
from koinon.fairness.metrics import METRICS
from koinon.fairness.results import AuditResults, Catalogue, Cell, Comparison, Group, PartnerGain, Provider
from koinon.fairness.verdicts import VERDICTS
from koinon.fairness.words import Words

__all__ = [
    "TONES",
    "catalogue_row",
    "comparison_row",
    "group_tables",
    "partner_row",
    "primary",
    "provider_table",
    "question_row",
    "question_words",
    "title_of",
]

TONES = {"pass": "good", "fail": "bad", "concern": "warn", "insufficient evidence": "open"}
"""Verdict to the style sheet's class."""

_DASH = "\u2013"


def title_of(metric: str, k: int, w: Words) -> str:
    """A metric's name for lists of ``k``."""
    return w(f"metric.{metric}.title", k=k)


def primary(results: AuditResults) -> list[Comparison | Provider]:
    """What has a verdict, worst first."""
    both: list[Comparison | Provider] = [*results.comparisons, *results.providers]

    def badness(one: Comparison | Provider) -> tuple[int, float]:
        assert one.verdict is not None
        assert one.tolerance is not None
        return VERDICTS.index(one.verdict), -(one.lo or 0.0) / one.tolerance

    return sorted((one for one in both if one.verdict is not None), key=badness)


def question_words(one: Comparison | Provider, results: AuditResults, w: Words) -> tuple[str, str]:
    """What is asked, and over which group or at which source."""
    if isinstance(one, Provider):
        return w("results.attention", by=w(f"results.by_{one.by}")), one.source
    return title_of(one.metric, int(str(results.plan["k"])), w), one.group.replace("*", " × ")


def question_row(one: Comparison | Provider, results: AuditResults, w: Words) -> dict[str, Any]:
    """One primary question: a row of the table, and a sentence for the first page."""
    what, over = question_words(one, results, w)
    assert one.verdict is not None
    gap: float | None
    if isinstance(one, Provider):
        gap, by_chance, people = one.deviation, None, None
        classes = sorted(one.classes, key=lambda c: c.exposure - c.taken)
        ends = [_class_label(one, classes[place].label, w) for place in (0, -1)]
        saying = "attention"
    else:
        gap, by_chance = one.gap, one.gap_by_chance
        people = _compared(one, results)
        ends = [_DASH if label is None else w.said("label", label) for label in (one.worst, one.best)]
        saying = "apart" if METRICS[one.metric].better == "neither" else "worse"
    figures = {"gap": w.number(gap), "lo": w.number(one.lo), "hi": w.number(one.hi)}
    figures["tolerance"] = w.number(one.tolerance)
    svg, reason = "", w.said("reason", one.reason)
    if one.lo is None or one.hi is None or gap is None:
        said = w("verdict.nothing", what=what, over=over, reason=reason)
    else:
        said = w(f"verdict.{saying}", what=what, over=over, worst=ends[0], best=ends[1], **figures)
        limit = max(one.hi, one.tolerance or 0.0, gap) * 1.06
        label = w("results.chart_label", lo=figures["lo"], hi=figures["hi"], tolerance=figures["tolerance"])
        svg = interval(one.lo, one.hi, gap, one.tolerance, limit, label=label)
    return figures | {
        "what": what,
        "group": over,
        "ends": ", ".join(ends),
        "n": _DASH if people is None else w.count(people),
        "by_chance": w.number(by_chance),
        "span": w.span(one.lo, one.hi),
        "p": w.p(one.p_adjusted),
        "found": one.verdict,
        "verdict": w(f"verdict.name.{one.verdict.replace(' ', '_')}"),
        "tone": TONES[one.verdict],
        "reason": reason,
        "said": said,
        "svg": svg,
    }


def _compared(one: Comparison, results: AuditResults) -> int | None:
    """People in the cells that were compared."""
    group = next(group for group in results.groups if group.name == one.group)
    told = [cell.figures[one.metric].n for cell in group.cells if one.metric in cell.figures]
    return sum(n for n in told if n is not None) or None


def comparison_row(one: Comparison, k: int, w: Words) -> dict[str, Any]:
    """One comparison without a verdict."""
    ends = [_DASH if label is None else w.said("label", label) for label in (one.worst, one.best)]
    neutral = METRICS[one.metric].better == "neither"
    between = None if not one.entropy or one.entropy_between is None else one.entropy_between / one.entropy
    return {
        "what": title_of(one.metric, k, w),
        "group": one.group.replace("*", " × "),
        "at_equal": one.at_equal or "",
        "ends": ", ".join(ends) + (f" {w('rows.neutral')}" if neutral else ""),
        "gap": w.number(one.gap),
        "by_chance": w.number(one.gap_by_chance),
        "span": w.span(one.lo, one.hi),
        "ratio": w.number(one.ratio, 2),
        "between": w.percent(between),
        "p": w.p(one.p_adjusted),
        "distinct": one.p_adjusted is not None and one.p_adjusted < 0.05,
        "reason": w.said("reason", one.reason),
    }


def group_tables(group: Group, results: AuditResults, w: Words) -> dict[str, Any]:
    """How each cell of one group is served, by every metric that the plan asks about it."""
    asked = [one.metric for one in results.comparisons if one.family == "primary" and one.group == group.name]
    metrics = list(dict.fromkeys(asked)) or list(results.overall)[:1]
    share = w.percent(group.unknown / results.people if results.people else None)
    return {
        "name": group.name.replace("*", " × "),
        "unknown": w("groups.unknown", how=w.said("how", group.how), count=w.count(group.unknown), share=share),
        "tables": [_table(metric, group, results, w) for metric in metrics],
        "hidden": [w.said("label", cell.label) for cell in group.cells if cell.hidden],
        "vanished": [w.said("label", label) for label in group.vanished],
        "pooled": w("groups.pooled", names=", ".join(group.pooled)) if group.pooled else "",
        "coverage": ""
        if group.coverage_users is None
        else w("groups.coverage_say", people=w.count(group.coverage_users)),
    }


def _table(metric: str, group: Group, results: AuditResults, w: Words) -> dict[str, Any]:
    """One metric by the cells of one group, drawn on one axis."""
    shown = [(cell, cell.figures[metric]) for cell in group.cells if not cell.hidden]
    ends = [end for _, found in shown for end in (found.lo, found.hi) if end is not None]
    axis = (min(ends), max(ends)) if ends else (0.0, 1.0)
    overall = results.overall[metric].mean
    rows = []
    for cell, found in shown:
        label = w.said("label", cell.label)
        row = {
            "label": label,
            "n": _people(cell, w),
            "coverage": w.percent(cell.coverage),
            "mean": w.number(found.mean),
            "shrunken": w.number(found.shrunken),
            "span": "",
            "svg": "",
        }
        if found.mean is not None and found.lo is not None and found.hi is not None:
            row["span"] = w.span(found.lo, found.hi)
            said = w("groups.chart_label", label=label, mean=row["mean"], span=row["span"])
            row["svg"] = mean_on(axis, found.mean, found.lo, found.hi, overall, label=said)
        rows.append(row)
    title = title_of(metric, int(str(results.plan["k"])), w)
    return {"metric": title, "rows": rows, "chart": w("groups.chart", overall=w.number(overall))}


def _people(cell: Cell, w: Words) -> str:
    """How many, with the noise in the figure."""
    if cell.n is None:
        return _DASH
    return w.count(cell.n) + ("" if cell.n_noise is None else f" \u00b1 {w.number(cell.n_noise, 0)}")


def provider_table(one: Provider, w: Words) -> dict[str, Any]:
    """Attention over one division of items at one source."""
    deviation = w("number.value_span", value=w.number(one.deviation), lo=w.number(one.lo), hi=w.number(one.hi))
    how = w(f"providers.divided.{one.by}")
    fairness = w.number(one.attention_fairness)
    return {
        "title": w("providers.at", source=one.source, by=w(f"results.by_{one.by}")),
        "how": w("providers.how", how=how, fairness=fairness, deviation=deviation, p=w.p(one.p_adjusted)),
        "classes": [
            {
                "label": _class_label(one, c.label, w),
                "count": w.count(c.items),
                "exposure": w.percent(c.exposure),
                "span": w.percent_span(c.lo, c.hi),
                "taken": w.percent(c.taken),
                "catalogue": w.percent(c.catalogue),
                "over": w.number(c.over_taken, 2),
            }
            for c in sorted(one.classes, key=lambda c: -c.taken)
        ],
    }


def _class_label(one: Provider, label: str, w: Words) -> str:
    return w.said("language" if one.by == "language" else "class", label)


def catalogue_row(one: Catalogue, w: Words) -> dict[str, str]:
    """All lists of one source together."""
    ee = one.expected_exposure
    return {
        "source": one.source,
        "coverage": w.percent(one.coverage),
        "gini": w.number(one.gini),
        "loss": w.number(ee.loss),
        "disparity": w.number(ee.disparity),
        "relevance": w.number(ee.relevance),
    }


def partner_row(one: PartnerGain, w: Words) -> dict[str, Any]:
    """What federating brought one partner."""
    return {
        "partner": one.partner,
        "language": one.language or "",
        "people": w.count(one.users),
        "local": w.number(one.local, 4),
        "federated": w.number(one.federated, 4),
        "gain": w.number(one.gain, 4),
        "span": w.span(one.lo, one.hi, 4),
        "worse": w.percent(one.users_worse),
        "harmed": one.harmed,
    }
