"""From an audit's results to what the page says: order, words and figures; the template computes nothing."""

from __future__ import annotations

import json
from typing import Any

from koinon.fairness.federated.section import federated_section
from koinon.fairness.mitigation.section import mitigation_section
from koinon.fairness.probes.section import probes_section
from koinon.fairness.report.facts import data_facts, method_facts, scope_facts, system_facts, tolerances
from koinon.fairness.report.tables import (
    TONES,
    catalogue_row,
    comparison_row,
    group_tables,
    partner_row,
    primary,
    provider_table,
    question_row,
    title_of,
)
from koinon.fairness.results import AuditResults, Comparison
from koinon.fairness.verdicts import VERDICTS
from koinon.fairness.words import ReportLanguage, Words, words_in

__all__ = ["build_view"]


def build_view(results: AuditResults, language: ReportLanguage) -> dict[str, Any]:
    """Return everything the template shows, formatted, in one language."""
    w = words_in(language)
    plan: Any = results.plan
    k = int(plan["k"])
    standing = [one for one in results.comparisons if one.family == "exploratory"]
    questions = [question_row(one, results, w) for one in primary(results)]
    return {
        "w": w,
        "results": results,
        "federated": results.federated is not None,
        "headline": w(f"verdict.headline.{_key(results.verdict)}"),
        "verdict": w(f"verdict.name.{_key(results.verdict)}"),
        "tone": TONES[results.verdict],
        "questions": questions,
        "counts": [_count(name, sum(one["found"] == name for one in questions), w) for name in VERDICTS],
        "meanings": [
            (w(f"verdict.name.{_key(name)}"), w(f"verdict.meaning.{_key(name)}"), TONES[name]) for name in VERDICTS
        ],
        "system": system_facts(plan, w),
        "scope": scope_facts(results, w),
        "data": data_facts(results, w),
        "method": method_facts(results, w),
        "tolerances": tolerances(results, w),
        "level": w.percent(float(plan["level"]), 0),
        "single": [group_tables(one, results, w) for one in results.groups if "*" not in one.name],
        "crossed": [group_tables(one, results, w) for one in results.groups if "*" in one.name],
        "controlled": [comparison_row(one, k, w) for one in standing if one.at_equal is not None],
        "exploratory": [comparison_row(one, k, w) for one in _by_p([one for one in standing if one.at_equal is None])],
        "providers": [provider_table(one, w) for one in results.providers],
        "catalogues": [catalogue_row(one, w) for one in results.catalogues],
        "partners": [] if results.federation is None else [partner_row(one, w) for one in results.federation.partners],
        "probes": probes_section(results.probes, w, rows=results.federated is None),
        "answered": federated_section(results.federated, w, smallest=int(plan["minimum_cell"])),
        "mitigation": mitigation_section(results.mitigation, k, w),
        "glossary": _glossary(results, k, w),
        "plan": json.dumps(plan, indent=2, ensure_ascii=False),
    }


def _key(verdict: str) -> str:
    return verdict.replace(" ", "_")


def _count(verdict: str, count: int, w: Words) -> tuple[str, int, str]:
    return w(f"verdict.name.{_key(verdict)}"), count, TONES[verdict]


def _by_p(rows: list[Comparison]) -> list[Comparison]:
    return sorted(rows, key=lambda one: (one.p_adjusted is None, one.p_adjusted or 0.0, one.group, one.metric))


def _glossary(results: AuditResults, k: int, w: Words) -> list[tuple[str, str]]:
    terms = ["gap", "interval", "p", "shrunken", "ratio", "between"]
    if results.catalogues:
        terms += ["coverage", "exposure"]
    return [
        *((title_of(name, k, w), w(f"metric.{name}.meaning")) for name in results.overall),
        *((w(f"glossary.{term}"), w(f"glossary.{term}_say")) for term in terms),
    ]
