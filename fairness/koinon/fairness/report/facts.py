"""What was audited, on whose data, and by which method: the report's facts in words."""

from __future__ import annotations

from typing import Any

from koinon.fairness.report.tables import question_words
from koinon.fairness.results import AuditResults, Comparison, Group, Provider
from koinon.fairness.words import Words

__all__ = ["data_facts", "method_facts", "scope_facts", "system_facts", "tolerances"]

Facts = list[tuple[str, str]]


def system_facts(plan: Any, w: Words) -> dict[str, str]:
    """The system in words: the auditor's own, and what was fitted or kept."""
    system = plan["system"]
    if system["kept"] == "deployed":
        what = w("system.deployed")
    elif system["kept"]:
        what = w("system.kept", name=system["kept"])
    else:
        what = w("system.fitted", name=system["recommender"])
    settings = ", ".join(f"{name} {value}" for name, value in system["settings"].items()) or w("system.default")
    settings = w("system.as_kept") if system["kept"] else settings
    return {"words": system["words"], "say": w("system.say", what=what, settings=settings)}


def scope_facts(results: AuditResults, w: Words) -> Facts:
    """How many people, from where, when, by which plan."""
    plan: Any = results.plan
    division = w(f"scope.{plan['data']['protocol']}")
    sources = "; ".join(
        w("scope.source", name=s.name, asked=w.count(s.asked), items=w.count(s.items)) for s in results.sources
    )
    if results.federated is not None:
        answers = results.federated.partners
        there = sum(one.code is None for one in answers)
        division = w("scope.federated")
        sources = w("scope.answered", there=there, all=len(answers), name=results.federated.federation)
    record = w(f"scope.record_{results.record.kind}")
    entered = w("scope.entered_fact", time=results.record.time, sequence=results.record.sequence, kind=record)
    facts = [(w("scope.people"), w.count(results.people))]
    if plan["data"]["basis"]:
        facts.append((w("scope.ground"), plan["data"]["basis"]))
    if results.at_several_sources:
        facts.append((w("scope.several"), w("scope.several_fact", count=w.count(results.at_several_sources))))
    facts.append((w("scope.sources"), sources))
    if window := plan["data"]["window"]:
        facts.append((w("scope.window"), w("scope.window_fact", first=window["first"], last=window["last"])))
    return [
        *facts,
        (w("scope.how"), w("scope.how_fact", division=division, k=plan["k"])),
        (w("scope.plan"), results.plan_sha256),
        (w("scope.entered"), entered),
        (w("scope.computed"), results.created),
        (w("scope.key"), results.record.key),
    ]


def data_facts(results: AuditResults, w: Words) -> dict[str, Any]:
    """Sources, divisions of people, and who was left out."""
    counted = [(w.said("excluded", reason), w.count(count)) for reason, count in results.excluded.items()]
    why = "data.not_declared" if results.federated is None else "data.not_asked"
    unknown = [(w(why, group=group.name), w.count(group.unknown)) for group in results.groups if "*" not in group.name]
    return {
        "sources": [
            (one.name, *(w.count(number) for number in (one.people, one.asked, one.items, one.events)))
            for one in results.sources
        ],
        "groups": [_division(group, w) for group in results.groups],
        "excluded": counted + unknown,
    }


def _division(group: Group, w: Words) -> dict[str, str]:
    def named(labels: list[str]) -> str:
        return ", ".join(w.said("label", label) for label in labels)

    missing = {
        "data.vanished": group.vanished,
        "data.withheld": [cell.label for cell in group.cells if cell.hidden],
        "data.pooled": group.pooled,
    }
    return {
        "name": group.name.replace("*", " × "),
        "how": w.said("how", group.how),
        "cells": named([cell.label for cell in group.cells if not cell.hidden]) or w("data.nothing"),
        "unknown": w.count(group.unknown),
        "missing": "; ".join(f"{w(key)}: {named(labels)}" for key, labels in missing.items() if labels)
        or w("data.nothing"),
    }


def method_facts(results: AuditResults, w: Words) -> Facts:
    """How it was measured and judged."""
    plan: Any = results.plan
    kind = "say" if results.federated is None else "federated"
    level, draws = w.percent(float(plan["level"]), 0), w.count(int(plan["draws"]))
    facts = [
        (w("method.unit"), w(f"method.unit_{kind}")),
        (w("method.interval"), w(f"method.interval_{kind}", level=level, draws=draws, seed=plan["seed"])),
        (w("method.test"), w(f"method.test_{kind}")),
        (w("method.many"), w("method.many_say")),
        (w("method.small"), w("method.small_say", people=plan["minimum_cell"])),
    ]
    if results.federated is None:
        facts.append((w("method.attention"), w("method.attention_say", patience=w.number(float(plan["patience"]), 2))))
    return facts


def tolerances(results: AuditResults, w: Words) -> list[tuple[str, str, str]]:
    """Each primary question's tolerance, in the plan's order."""
    both: list[Comparison | Provider] = [*results.comparisons, *results.providers]
    return [(*question_words(one, results, w), w.number(one.tolerance)) for one in both if one.tolerance is not None]
