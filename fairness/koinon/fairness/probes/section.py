"""The report's section on probes."""

from __future__ import annotations

from typing import Any

from koinon.fairness.probes.findings import Association, Counterfactual, Probes, Value
from koinon.fairness.templating import filled
from koinon.fairness.words import Words

__all__ = ["probes_section"]

_MEASURES = {"jaccard": "Jaccard", "serp": "SERP*", "prag": "PRAG*", "ndcg": "NDCG"}
_LEVEL = 0.05


def probes_section(probes: Probes | None, w: Words, *, rows: bool) -> Any:
    """The section as safe HTML; without probes it says so, and with ``rows`` false that there can be none."""
    return filled(
        "koinon.fairness.probes",
        "section.html.j2",
        w=w,
        rows=rows,
        counterfactual=[] if probes is None else [_probe(one, w) for one in probes.counterfactual],
        association=[] if probes is None else [_association(one, w) for one in probes.association],
        encoder=None if probes is None else probes.encoder,
    )


def _probe(one: Counterfactual, w: Words) -> dict[str, Any]:
    tone, verdict = _said(one)
    language = w(f"probes.in.{one.language}")
    facts = {"people": w.count(one.people), "k": one.k, "sentence": one.neutral_sentence}
    facts |= {"ndcg": w.number(one.neutral_ndcg.mean), "changed": w.percent(one.changed, 0)}
    own = ""
    if one.own is not None:
        own = w("probes.own", own=f"{w.number(one.own.mean)} ({_span(one.own, w)})", people=w.count(one.own_people))
    return {
        "attribute": one.attribute,
        "language": one.language,
        "title": w("probes.stated_in", attribute=one.attribute, language=language, source=one.source),
        "facts": w("probes.facts", **facts),
        "tone": tone,
        "verdict": w(f"probes.{verdict}"),
        "own": own,
        "stated": [
            {
                "label": value.label,
                "sentence": value.sentence,
                "cells": [
                    (w.number(cell.mean), _span(cell, w))
                    for cell in (value.jaccard, value.serp, value.prag, value.ndcg, value.ndcg_over_neutral)
                ],
            }
            for value in one.stated
        ],
        "spreads": [
            {
                "measure": _MEASURES[spread.measure],
                "range": w.number(spread.range),
                "by_chance": w.number(spread.by_chance),
                "span": w.span(spread.lo, spread.hi),
                "deviation": w.number(spread.deviation),
                "ends": f"{spread.least}, {spread.most}" if spread.range else "",
                "p": w.p(spread.p_adjusted),
            }
            for spread in one.spreads
        ],
    }


def _said(one: Counterfactual) -> tuple[str, str]:
    """What the probe comes to: the style sheet's class, and the sentence's key."""
    if one.changed == 0:
        return "good", "not_read"
    served = next(spread for spread in one.spreads if spread.measure == "ndcg")
    if served.p_adjusted < _LEVEL:
        return "bad", "worse"
    alike = [spread for spread in one.spreads if spread.measure != "ndcg"]
    if any(spread.p_adjusted < _LEVEL for spread in alike):
        return "warn", "more"
    return "open", "alike"


def _association(one: Association, w: Words) -> dict[str, Any]:
    return {
        "test": w.said("test", one.test),
        "language": w(f"probes.in.{one.language}"),
        "form": w(f"probes.{one.form}"),
        "people": f"{w.said('kind', one.first)}, {w.said('kind', one.second)}",
        "things": f"{w.said('kind', one.one)}, {w.said('kind', one.other)}",
        "effect": w.number(one.effect, 2),
        "p": w.p(one.p_adjusted),
        "distinct": one.p_adjusted < _LEVEL,
    }


def _span(value: Value, w: Words) -> str:
    return w.span(value.lo, value.hi)
