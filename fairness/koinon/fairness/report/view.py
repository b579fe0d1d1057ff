"""From an audit's results to what the page says: order, words and figures; the template computes nothing."""

from __future__ import annotations

import json
from typing import Any

from koinon.fairness.federated.section import asked
from koinon.fairness.federated.section import section as answered
from koinon.fairness.metrics import METRICS, PROVIDER_CLASSES
from koinon.fairness.mitigation.section import mitigation_section
from koinon.fairness.probes.section import section
from koinon.fairness.report.drawing import interval, mean_on
from koinon.fairness.results import AuditResults, Cell, Comparison, Estimate, Group, Provider
from koinon.fairness.verdicts import VERDICTS

__all__ = ["build_view"]

_DASH = "\u2013"
_MINUS = "\u2212"

_HEADLINES = {
    "pass": "Every question asked was answered: no group is served worse than the tolerance allows.",
    "fail": "At least one group is served worse, beyond doubt and beyond the tolerance.",
    "concern": "Groups are served differently; whether beyond the tolerance cannot be told from these data.",
    "insufficient evidence": "These data cannot show that everybody is served alike, nor that somebody is not.",
}
_MEANINGS = {
    "pass": "The whole interval of the gap lies within the tolerance, and every group could be judged.",
    "fail": "The whole interval of the gap lies above the tolerance.",
    "concern": "There is a difference that chance does not explain, but the interval reaches to both sides of the "
    "tolerance, or a group could not be judged.",
    "insufficient evidence": "Neither was shown. This is no pass: no difference found is not the same as none there.",
}
_OF_LISTS = (
    ("coverage", "Share of the catalogue that the lists of equally many people of each group show."),
    (
        "expected exposure",
        "EE-L: squared distance of the attention items get from what they ought to if equally relevant items were "
        "treated alike. EE-D: how concentrated attention is. EE-R: how much goes to relevant items (Diaz et al. "
        "2020).",
    ),
)
"""What the glossary says where lists are at hand."""
_TONES = {"pass": "good", "fail": "bad", "concern": "warn", "insufficient evidence": "open"}


def build_view(results: AuditResults) -> dict[str, Any]:
    """Return everything the template shows, formatted."""
    plan = results.plan
    k = int(str(plan["k"]))
    questions = [_question(one, k) for one in _primary(results)]
    standing = [one for one in results.comparisons if one.family == "exploratory"]
    return {
        "results": results,
        "headline": _HEADLINES[results.verdict],
        "tone": _TONES[results.verdict],
        "questions": questions,
        "counts": [(name, sum(one["verdict"] == name for one in questions), _TONES[name]) for name in VERDICTS],
        "meanings": [(name, _MEANINGS[name], _TONES[name]) for name in VERDICTS],
        "system": _system(plan),
        "scope": _scope(results),
        "excluded": _excluded(results),
        "single": [_group(one, results, k) for one in results.groups if "*" not in one.name],
        "crossed": [_group(one, results, k) for one in results.groups if "*" in one.name],
        "controlled": [_row(one, k) for one in standing if one.at_equal is not None],
        "exploratory": [_row(one, k) for one in _by_p([one for one in standing if one.at_equal is None])],
        "providers": [_provider(one) for one in results.providers],
        "mitigation": mitigation_section(results.mitigation, k),
        "catalogues": [_catalogue(one) for one in results.catalogues],
        "labels": results.labels,
        "number": number,
        "percent": percent,
        "glossary": _glossary(results, k),
        "plan": json.dumps(plan, indent=2, ensure_ascii=False),
        "level": percent(float(str(plan["level"])), 0),
        "federation": results.federation,
        "answered": answered(results.federated),
        "probes": section(results.probes),
    }


def number(value: float | None, digits: int = 3) -> str:
    """A figure with a true minus, or a dash where there is none."""
    if value is None:
        return _DASH
    said = f"{value:.{digits}f}"
    return said.replace("-", _MINUS) if float(said) else f"{0:.{digits}f}"


def percent(value: float | None, digits: int = 1) -> str:
    """A share in per cent."""
    return _DASH if value is None else f"{value * 100:.{digits}f}\u202f%".replace("-", _MINUS)


def _p(value: float | None) -> str:
    if value is None:
        return _DASH
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _title(metric: str, k: int) -> str:
    return METRICS[metric].title.format(k=k)


def _primary(results: AuditResults) -> list[Comparison | Provider]:
    both: list[Comparison | Provider] = [*results.comparisons, *results.providers]
    asked = [one for one in both if one.verdict is not None]

    def badness(one: Comparison | Provider) -> tuple[int, float]:
        assert one.verdict is not None
        assert one.tolerance is not None
        return VERDICTS.index(one.verdict), -(one.lo or 0.0) / one.tolerance

    return sorted(asked, key=badness)


def _question(one: Comparison | Provider, k: int) -> dict[str, Any]:
    """One line of the verdict table."""
    gap = one.deviation if isinstance(one, Provider) else one.gap
    if isinstance(one, Provider):
        row: dict[str, Any] = {
            "what": f"share of attention by {one.by}",
            "group": one.source,
            "ends": _provider_ends(one),
            "by_chance": _DASH,
        }
    else:
        row = {
            "what": _title(one.metric, k),
            "group": one.group.replace("*", " × "),
            "ends": (one.worst or _DASH, one.best or _DASH),
            "by_chance": number(one.gap_by_chance),
        }
    svg = ""
    if one.lo is not None and one.hi is not None and gap is not None:
        limit = max(one.hi, one.tolerance or 0.0, gap) * 1.06
        said = f"gap between {number(one.lo)} and {number(one.hi)}, tolerance {number(one.tolerance)}"
        svg = interval(one.lo, one.hi, gap, one.tolerance, limit, label=said)
    return row | {
        "gap": number(gap),
        "lo": number(one.lo),
        "hi": number(one.hi),
        "tolerance": number(one.tolerance),
        "p": _p(one.p_adjusted),
        "verdict": one.verdict,
        "tone": _TONES[one.verdict] if one.verdict else "open",
        "reason": one.reason,
        "svg": svg,
    }


def _provider_ends(one: Provider) -> tuple[str, str]:
    """The class that gets least for what people take of it, and the one that gets most."""
    gaps = sorted(one.classes, key=lambda c: c.exposure - c.taken)
    return gaps[0].label, gaps[-1].label


def _row(one: Comparison, k: int) -> dict[str, Any]:
    return {
        "what": _title(one.metric, k),
        "group": one.group.replace("*", " × "),
        "at_equal": one.at_equal or "",
        "ends": (one.worst or _DASH, one.best or _DASH),
        "neutral": METRICS[one.metric].better == "neither",
        "gap": number(one.gap),
        "by_chance": number(one.gap_by_chance),
        "span": f"{number(one.lo)} to {number(one.hi)}" if one.lo is not None else _DASH,
        "ratio": number(one.ratio, 2),
        "between": percent(one.entropy_between / one.entropy)
        if one.entropy and one.entropy_between is not None
        else _DASH,
        "p": _p(one.p_adjusted),
        "clear": one.p_adjusted is not None and one.p_adjusted < 0.05,
        "reason": one.reason,
    }


def _by_p(rows: list[Comparison]) -> list[Comparison]:
    return sorted(rows, key=lambda one: (one.p_adjusted is None, one.p_adjusted or 0.0, one.group, one.metric))


def _estimate(found: Estimate | None) -> dict[str, str]:
    if found is None or found.mean is None:
        return {"mean": _DASH, "span": "", "shrunken": _DASH}
    span = f"{number(found.lo)} to {number(found.hi)}"
    return {"mean": number(found.mean), "span": span, "shrunken": number(found.shrunken)}


def _group(group: Group, results: AuditResults, k: int) -> dict[str, Any]:
    metrics = [one.metric for one in results.comparisons if one.family == "primary" and one.group == group.name]
    first = list(dict.fromkeys(metrics)) or list(results.overall)[:1]
    tables = [_table(metric, group, results, k) for metric in first]
    return {
        "name": group.name.replace("*", " × "),
        "how": group.how,
        "tables": tables,
        "hidden": [cell.label for cell in group.cells if cell.hidden],
        "vanished": group.vanished,
        "pooled": group.pooled,
        "unknown": f"{group.unknown:,}",
        "unknown_share": percent(group.unknown / results.people if results.people else None),
        "coverage_users": group.coverage_users,
    }


def _people(cell: Cell) -> str:
    """How many, with the noise in the figure."""
    said = f"{cell.n:,}"
    return said if cell.n_noise is None else f"{said} \u00b1 {cell.n_noise:.0f}"


def _table(metric: str, group: Group, results: AuditResults, k: int) -> dict[str, Any]:
    """One metric by the cells of one group, drawn on one axis."""
    shown = [(cell, cell.figures[metric]) for cell in group.cells if not cell.hidden]
    ends = [end for _, found in shown for end in (found.lo, found.hi) if end is not None]
    axis = (min(ends), max(ends)) if ends else (0.0, 1.0)
    overall = results.overall[metric].mean
    rows = []
    for cell, found in shown:
        row = {"label": cell.label, "n": _people(cell), "coverage": percent(cell.coverage), "svg": ""}
        if found.mean is not None and found.lo is not None and found.hi is not None:
            said = f"{cell.label}: {number(found.mean)}, {number(found.lo)} to {number(found.hi)}"
            row["svg"] = mean_on(axis, found.mean, found.lo, found.hi, overall, label=said)
        rows.append(row | _estimate(found))
    return {"metric": _title(metric, k), "rows": rows, "overall": number(overall)}


def _provider(one: Provider) -> dict[str, Any]:
    return {
        "by": one.by,
        "source": one.source,
        "how": PROVIDER_CLASSES[one.by],
        "fairness": number(one.attention_fairness),
        "deviation": f"{number(one.deviation)} ({number(one.lo)} to {number(one.hi)})",
        "p": _p(one.p_adjusted),
        "classes": [
            {
                "label": c.label,
                "items": f"{c.items:,}",
                "exposure": percent(c.exposure),
                "span": f"{percent(c.lo)} to {percent(c.hi)}",
                "taken": percent(c.taken),
                "catalogue": percent(c.catalogue),
                "over": number(c.over_taken, 2),
            }
            for c in sorted(one.classes, key=lambda c: -c.taken)
        ],
    }


def _catalogue(one: Any) -> dict[str, str]:
    ee = one.expected_exposure
    return {
        "source": one.source,
        "coverage": percent(one.coverage),
        "gini": number(one.gini),
        "loss": number(ee.loss),
        "disparity": number(ee.disparity),
        "relevance": number(ee.relevance),
    }


def _system(plan: Any) -> dict[str, str]:
    system = plan["system"]
    what = (
        "what each partner serves with"
        if system["kept"] == "deployed"
        else f"the kept recommender {system['kept']}"
        if system["kept"]
        else f"the recommender {system['recommender']}, fitted for this audit on every event before the test"
    )
    settings = ", ".join(f"{name} {value}" for name, value in system["settings"].items()) or "default settings"
    return {"what": what, "settings": "as it was kept" if system["kept"] else settings, "words": system["words"]}


def _scope(results: AuditResults) -> list[tuple[str, str]]:
    plan: Any = results.plan
    protocols = {
        "holdout": "one event of each person is held out and asked for",
        "time": "the last tenth of all events is held out and asked for",
        "leave-last-out": "the last event of each person is held out and asked for",
    }
    division = protocols[plan["data"]["protocol"]]
    sources = "; ".join(f"{s.name}: {s.asked:,} people, {s.items:,} items" for s in results.sources)
    if results.federated is not None:
        division, sources = "events are divided as the federation divides them", asked(results.federated)
    facts = [
        ("People asked about", f"{results.people:,}"),
        ("Sources", sources),
        ("How", f"{division}; the whole catalogue is ranked, lists of {plan['k']} are judged"),
        ("Smallest group shown", f"{plan['minimum_cell']} people"),
        ("Plan", results.plan_sha256),
        ("Entered", f"{results.record.time}, entry {results.record.sequence} of a {results.record.kind} record"),
        ("Computed", results.created),
        ("Record's key", results.record.key),
    ]
    if window := plan["data"]["window"]:
        facts.insert(3, ("Window", f"who was asked from {window['first']} to {window['last']}, UTC"))
    if plan["data"]["basis"]:
        facts.insert(2, ("Ground for using attributes", plan["data"]["basis"]))
    if results.at_several_sources:
        facts.insert(2, ("Known at several sources", f"{results.at_several_sources:,} people, each counted once"))
    return facts


def _excluded(results: AuditResults) -> list[tuple[str, str]]:
    rows = [(reason, f"{count:,}") for reason, count in results.excluded.items()]
    why = "not declared" if results.federated is None else "not declared, not listed or not asked"
    return rows + [
        (f"{group.name}: {why}, in no comparison", f"{group.unknown:,}")
        for group in results.groups
        if "*" not in group.name
    ]


def _glossary(results: AuditResults, k: int) -> list[tuple[str, str]]:
    entries = [(_title(name, k), METRICS[name].meaning) for name in results.overall]
    return [
        *entries,
        (
            "gap",
            "Mean of the best-served group minus that of the worst-served. The largest of many differences is large by "
            "chance alone; how large, the column by chance says.",
        ),
        (
            "interval",
            "Holds the true largest gap in at least the stated share of audits, however many groups there are. The "
            "lower end is what all pairs of groups bear together, the upper end what the worst pair could be.",
        ),
        (
            "p, adjusted",
            "How often relabelled people, with no difference between groups, show as large a standardised gap. "
            "Adjusted by Holm over the primary questions, by Benjamini and Hochberg over all others.",
        ),
        (
            "shrunken",
            "The group's mean drawn towards that of all groups by as much of the groups' scatter as chance explains.",
        ),
        ("ratio", "Smallest group mean over largest."),
        (
            "between",
            "Share of the inequality among people (generalised entropy, alpha 2) that lies between the groups.",
        ),
        *(_OF_LISTS if results.catalogues else ()),
    ]
