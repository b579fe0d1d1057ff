"""The report's section on what can be done, and at what cost."""

from __future__ import annotations

from html import escape
from math import hypot
from typing import Any

from koinon.fairness.drawing import look, opened
from koinon.fairness.mitigation.findings import Frontier, Mitigation, Option, Question, Span
from koinon.fairness.templating import filled
from koinon.fairness.words import Words

__all__ = ["mitigation_section"]

_NEAR = 14.0
_SHOWN, _DRAWN, _HARDLY = 6, 3, 0.95


def mitigation_section(found: Mitigation | None, k: int, w: Words) -> Any:
    """The section as safe HTML; where no remedies were weighed it says so."""
    questions: list[dict[str, Any]] = []
    balance: list[dict[str, str]] = []
    used: dict[str, None] = {}
    if found is not None:
        questions = [_question(found, place, k, w) for place in range(len(found.questions))]
        dial = next((one for one in found.frontiers if one.remedy == "balanced"), None)
        balance = [] if dial is None else _balance(dial, w)
        used = dict.fromkeys(one.remedy for one in found.frontiers)
    return filled(
        "koinon.fairness.mitigation",
        "section.html.j2",
        w=w,
        weighed=found is not None,
        cost="" if found is None else w.percent(found.largest_cost),
        questions=questions,
        words=[(w(f"remedy.{name}.title"), w(f"remedy.{name}.meaning")) for name in used],
        balance=balance,
        k=k,
    )


def _question(found: Mitigation, place: int, k: int, w: Words) -> dict[str, Any]:
    one = found.questions[place]
    attention = one.metric == "attention"
    what = w("mitigation.attention") if attention else w(f"metric.{one.metric}.title", k=k)
    over = w(f"results.by_{one.over}") if attention else one.over.replace("*", " × ")
    over += f", {one.source}" if one.source else ""
    mended = [option for option in one.options if option.mended]
    shown = [option for option in one.options if abs(option.left.value) < _HARDLY][:_SHOWN] or one.options[:1]
    if mended:
        best = mended[0]
        said = w("mitigation.mended", name=_name(best.remedy, best.of, w), dial=_dial(best.dial, w))
    else:
        said = w("mitigation.not_halved" if one.options else "mitigation.not_smaller")
    title = w("mitigation.question", what=what, over=over)
    return {
        "title": title,
        "what": what,
        "before": w("mitigation.before", gap=_span(one.before, w)),
        "said": said,
        "svg": draw_frontiers(found, place, w, label=w("mitigation.picture_label", what=title)),
        "options": [_option(option, one, w) for option in shown],
        "more": len(one.options) - len(shown),
    }


def _option(option: Option, question: Question, w: Words) -> dict[str, Any]:
    people = question.metric != "attention"
    kind = "label" if people else "class"
    return {
        "name": _name(option.remedy, option.of, w),
        "dial": _dial(option.dial, w),
        "after": _span(option.after, w),
        "left": w.percent(option.left.value),
        "left_span": w.percent_span(option.left.lo, option.left.hi),
        "lifted": w.percent(option.lifted, 0),
        "cost": w.percent(option.cost.value),
        "cost_span": w.percent_span(option.cost.lo, option.cost.hi),
        "mended": option.mended,
        "effects": [
            {
                "label": w.said(kind, one.label),
                "n": w.count(one.n),
                "before": w.number(one.before),
                "after": w.number(one.after),
                "ndcg": ""
                if one.ndcg_before is None or one.ndcg_after is None
                else f"{w.number(one.ndcg_before)} → {w.number(one.ndcg_after)}",
            }
            for one in option.effects
        ],
        "people": people,
    }


def _balance(frontier: Frontier, w: Words) -> list[dict[str, str]]:
    columns = ("from_everybody", "miscalibration_kl", "diversity", "novelty")
    return [
        {
            "dial": _dial(point.dial, w),
            "ndcg": w.number(point.ndcg, 4),
            **{name: w.number(point.figures.get(name)) for name in columns},
        }
        for point in frontier.points
    ]


def draw_frontiers(found: Mitigation, place: int, w: Words, *, label: str) -> str:
    """One question's frontiers on validation: NDCG lost to the right, what is left of the gap upwards.

    Each remedy is a line from "as it is" with a number that the list beside the picture names; one that hardly leaves
    that place has no number. The three that left least of the gap on the test are darker. What costs more than a
    quarter, or doubles the gap, is off the picture.
    """
    width, height, left, top = 420.0, 260.0, 44.0, 10.0
    dearest, highest = 0.25, 2.0

    def at(cost: float, share: float) -> tuple[float, float]:
        across = (cost + 0.02) / (dearest + 0.02)
        return left + across * (width - left - 24), top + (1 - share / highest) * (height - top - 36)

    parts = [
        opened("frontier", width, height, label),
        _box(at, found.largest_cost),
    ]
    leading = {(one.remedy, one.of) for one in found.questions[place].options[:_DRAWN]} if found.questions else set()
    names: list[str] = []
    ends: list[tuple[int, tuple[float, float]]] = []
    for frontier in found.frontiers:
        lead = " lead" if (frontier.remedy, frontier.of) in leading else ""
        first = frontier.points[0]
        before = first.gaps[place]
        if not before or not first.ndcg:
            continue
        points = [
            (1 - one.ndcg / first.ndcg, gap / before) for one in frontier.points if (gap := one.gaps[place]) is not None
        ]
        inside = [point for point in points if -0.02 <= point[0] <= dearest and point[1] <= highest]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in inside))
        parts.append(f'<polyline {look(f"path{lead}")} points="{line}"/>')
        for point in inside[1:]:
            x, y = at(*point)
            parts.append(f'<circle {look(f"stop{lead}")} cx="{x:.1f}" cy="{y:.1f}" r="2"/>')
        (x, y), start = at(*inside[-1]), at(0.0, 1.0)
        moved = hypot(x - start[0], y - start[1]) > _NEAR
        title = _title(frontier, w)
        names.append(title if moved or len(inside) < len(points) else w("mitigation.stays", name=title))
        if moved:
            ends.append((len(names), (x, y)))
    for number, (x, y) in _apart(ends):
        parts.append(f'<text {look("mark")} x="{x + 4:.1f}" y="{y + 4:.1f}">{number}</text>')
    parts.append(_axes(at, width, height, dearest, highest, w))
    legend = "".join(f"<li>{escape(name)}</li>" for name in names)
    return "".join(parts) + f'</svg><ol class="legend">{legend}</ol>'


def _box(at: Any, largest_cost: float) -> str:
    """What counts as mended: half the gap or less within the cost."""
    (x0, y0), (x1, y1) = at(-0.02, 0.5), at(largest_cost, 0.0)
    return f'<rect {look("allowed")} x="{x0:.1f}" y="{y0:.1f}" width="{x1 - x0:.1f}" height="{y1 - y0:.1f}"/>'


def _axes(at: Any, width: float, height: float, dearest: float, highest: float, w: Words) -> str:
    (x0, y0), (x1, y1) = at(-0.02, 0.0), at(dearest, highest)
    parts = [f'<path {look("axis")} d="M{x0:.1f} {y1:.1f}V{y0:.1f}H{x1:.1f}"/>']
    for cost in (0.0, 0.05, 0.1, 0.15, 0.2, 0.25):
        x, y = at(cost, 0.0)
        parts.append(
            f'<text {look("tick")} text-anchor="middle" x="{x:.1f}" y="{y + 14:.1f}">{cost * 100:.0f} %</text>'
        )
    for share in (0.0, 0.5, 1.0, 1.5, 2.0):
        x, y = at(-0.02, share)
        parts.append(f'<text {look("tick")} text-anchor="end" x="{x - 5:.1f}" y="{y + 4:.1f}">{_dial(share, w)}</text>')
    parts.append(
        f'<text {look("tick")} text-anchor="middle" x="{(width + x0) / 2:.1f}" y="{height - 4:.1f}">'
        f"{escape(w('mitigation.across'))}</text>"
        f'<text {look("tick")} transform="translate(11 {height / 2:.1f}) rotate(-90)" text-anchor="middle">'
        f"{escape(w('mitigation.up'))}</text>"
    )
    return "".join(parts)


def _apart(marks: list[tuple[int, tuple[float, float]]]) -> list[tuple[int, tuple[float, float]]]:
    """Move numbers that would cover each other down, a line each."""
    placed: list[tuple[int, tuple[float, float]]] = []
    for number, (x, y) in sorted(marks, key=lambda one: one[1][1]):
        while any(abs(x - u) < 14 and abs(y - v) < 11 for _, (u, v) in placed):
            y += 11
        placed.append((number, (x, y)))
    return placed


def _title(frontier: Frontier, w: Words) -> str:
    name = _name(frontier.remedy, frontier.of, w)
    return w("mitigation.asks_group", name=name) if frontier.asks_group else name


def _name(remedy: str, of: str, w: Words) -> str:
    return w(f"remedy.{remedy}.title") + (f": {of}" if of else "")


def _dial(value: float, w: Words) -> str:
    return f"{value:g}".replace(".", w("number.decimal"))


def _span(span: Span, w: Words) -> str:
    if span.lo is None or span.hi is None:
        return w.number(span.value)
    return w("number.value_span", value=w.number(span.value), lo=w.number(span.lo), hi=w.number(span.hi))
