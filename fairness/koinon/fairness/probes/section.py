"""The report's section on probes."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from koinon.fairness.probes.findings import Association, Counterfactual, Probes, Value

__all__ = ["section"]

_MEASURES = {"jaccard": "Jaccard", "serp": "SERP*", "prag": "PRAG*", "ndcg": "NDCG"}
_LANGUAGES = {"en": "English", "de": "German", "fr": "French", "es": "Spanish"}
_LEVEL = 0.05


def section(probes: Probes | None) -> Any:
    """The section as safe HTML (every text is escaped); empty without probes."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    if probes is None or not (probes.counterfactual or probes.association):
        return Markup("")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = files("koinon.fairness.probes").joinpath("section.html.j2").read_text(encoding="utf-8")
    return Markup(
        environment.from_string(text).render(
            counterfactual=[_probe(one) for one in probes.counterfactual],
            association=[_association(one) for one in probes.association],
            encoder=probes.encoder,
        )
    )


def _probe(one: Counterfactual) -> dict[str, Any]:
    tone, verdict = _said(one)
    return {
        "attribute": one.attribute,
        "language": _LANGUAGES[one.language],
        "source": one.source,
        "people": f"{one.people:,}",
        "k": one.k,
        "neutral_sentence": one.neutral_sentence,
        "neutral": _number(one.neutral_ndcg.mean),
        "changed": f"{one.changed * 100:.0f} %",
        "tone": tone,
        "verdict": verdict,
        "own": "" if one.own is None else f"{_number(one.own.mean)} ({_span(one.own)})",
        "own_people": f"{one.own_people:,}",
        "stated": [
            {
                "label": value.label,
                "sentence": value.sentence,
                "cells": [
                    (_number(cell.mean), _span(cell))
                    for cell in (value.jaccard, value.serp, value.prag, value.ndcg, value.ndcg_over_neutral)
                ],
            }
            for value in one.stated
        ],
        "spreads": [
            {
                "measure": _MEASURES[spread.measure],
                "range": _number(spread.range),
                "by_chance": _number(spread.by_chance),
                "span": f"{_number(spread.lo)} to {_number(spread.hi)}",
                "deviation": _number(spread.deviation),
                "ends": f"{spread.least}, {spread.most}" if spread.range else "",
                "p": _p(spread.p_adjusted),
            }
            for spread in one.spreads
        ],
    }


def _said(one: Counterfactual) -> tuple[str, str]:
    """What the probe comes to, in a sentence."""
    if one.changed == 0:
        return "good", "No list changes: what is stated is not read."
    served = next(spread for spread in one.spreads if spread.measure == "ndcg")
    if served.p_adjusted < _LEVEL:
        return "bad", "Lists change, and some are served worse for what they state."
    alike = [spread for spread in one.spreads if spread.measure != "ndcg"]
    if any(spread.p_adjusted < _LEVEL for spread in alike):
        return "warn", "Lists change more for some values than for others; that one is served worse is not shown."
    return "open", "Lists change about as much for every value; that one is served worse than another is not shown."


def _association(one: Association) -> dict[str, Any]:
    return {
        "test": one.test,
        "language": _LANGUAGES[one.language],
        "form": one.form,
        "people": f"{one.first}, {one.second}",
        "things": f"{one.one}, {one.other}",
        "effect": _number(one.effect, 2),
        "p": _p(one.p_adjusted),
        "clear": one.p_adjusted < _LEVEL,
    }


def _number(value: float, digits: int = 3) -> str:
    said = f"{value:.{digits}f}"
    return said.replace("-", "\u2212") if float(said) else f"{0:.{digits}f}"


def _span(value: Value) -> str:
    return f"{_number(value.lo)} to {_number(value.hi)}"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
