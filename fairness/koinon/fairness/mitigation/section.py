"""The report's section on what can be done, and at what cost."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from math import hypot
from typing import Any

from koinon.fairness.metrics import METRICS
from koinon.fairness.mitigation.findings import Frontier, Mitigation, Option, Question, Span

__all__ = ["mitigation_section"]

_NEAR = 14.0
_SHOWN, _DRAWN, _HARDLY = 6, 3, 0.95

_TITLES = {
    "calibrated": "calibrated to own history",
    "calibrated_popularity": "popularity calibrated",
    "balanced": "balanced with everybody",
    "exposure": "exposure",
    "exposure_shared": "exposure, cost shared",
    "alike": "popularity lift alike",
    "weighted": "weighted training",
    "decorrelated": "decorrelated scores",
    "by_group": "recommender by group",
}


def mitigation_section(found: Mitigation | None, k: int) -> Any:
    """The section as safe HTML (every text is escaped); empty where no remedies were weighed."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    if found is None:
        return Markup("")
    from koinon.fairness.mitigation.remedies import WORDS

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = files("koinon.fairness.mitigation").joinpath("section.html.j2").read_text(encoding="utf-8")
    balance = next((one for one in found.frontiers if one.remedy == "balanced"), None)
    used = dict.fromkeys(one.remedy for one in found.frontiers)
    return Markup(
        environment.from_string(text).render(
            largest_cost=_percent(found.largest_cost),
            questions=[_question(found, place, k) for place in range(len(found.questions))],
            words=[(_TITLES[name], text) for name, text in WORDS.items() if name in used],
            balance=[] if balance is None else _balance(balance),
            k=k,
        )
    )


def _question(found: Mitigation, place: int, k: int) -> dict[str, Any]:
    one = found.questions[place]
    what = "attention to items" if one.metric == "attention" else METRICS[one.metric].title.format(k=k)
    over = one.over.replace("*", " × ") + (f", {one.source}" if one.source else "")
    mended = [option for option in one.options if option.mended]
    shown = [option for option in one.options if abs(option.left.value) < _HARDLY][:_SHOWN] or one.options[:1]
    if mended:
        best = mended[0]
        said = f"At least halved on the test within the cost allowed, by {_name(best)} at dial {best.dial:g}."
    elif one.options:
        said = "Not halved within the cost allowed by anything tried; the picture shows what it would cost."
    else:
        said = "Nothing tried makes it smaller within the cost allowed; the picture shows what it would cost."
    return {
        "what": what,
        "over": over,
        "before": _span(one.before),
        "said": said,
        "svg": draw_frontiers(found, place, label=f"{what} over {over}"),
        "options": [_option(option, one) for option in shown],
        "more": len(one.options) - len(shown),
    }


def _option(option: Option, question: Question) -> dict[str, Any]:
    return {
        "name": _name(option),
        "dial": f"{option.dial:g}",
        "after": _span(option.after),
        "left": _percent(option.left.value),
        "left_span": _ends(option.left),
        "lifted": "–" if option.lifted is None else _percent(option.lifted, 0),
        "cost": _percent(option.cost.value),
        "cost_span": _ends(option.cost),
        "mended": option.mended,
        "effects": [
            {
                "label": one.label,
                "n": f"{one.n:,}",
                "before": f"{one.before:.3f}",
                "after": f"{one.after:.3f}",
                "ndcg": ""
                if one.ndcg_before is None or one.ndcg_after is None
                else f"{one.ndcg_before:.3f} to {one.ndcg_after:.3f}",
            }
            for one in option.effects
        ],
        "people": question.metric != "attention",
    }


def _balance(frontier: Frontier) -> list[dict[str, str]]:
    columns = ("from_everybody", "miscalibration_kl", "diversity", "novelty")
    return [
        {
            "dial": f"{point.dial:g}",
            "ndcg": f"{point.ndcg:.4f}",
            **{name: f"{point.figures[name]:.3f}" if name in point.figures else "–" for name in columns},
        }
        for point in frontier.points
    ]


def draw_frontiers(found: Mitigation, place: int, *, label: str) -> str:
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
        f'<svg class="frontier" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}">',
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
        parts.append(f'<polyline class="path{lead}" points="{line}"/>')
        for point in inside[1:]:
            x, y = at(*point)
            parts.append(f'<circle class="stop{lead}" cx="{x:.1f}" cy="{y:.1f}" r="2"/>')
        (x, y), start = at(*inside[-1]), at(0.0, 1.0)
        moved = hypot(x - start[0], y - start[1]) > _NEAR
        names.append(_title(frontier) + ("" if moved or len(inside) < len(points) else ": stays where it starts"))
        if moved:
            ends.append((len(names), (x, y)))
    for number, (x, y) in _apart(ends):
        parts.append(f'<text class="mark" x="{x + 4:.1f}" y="{y + 4:.1f}">{number}</text>')
    parts.append(_axes(at, width, height, dearest, highest))
    legend = "".join(f"<li>{escape(name)}</li>" for name in names)
    return "".join(parts) + f'</svg><ol class="legend">{legend}</ol>'


def _box(at: Any, largest_cost: float) -> str:
    """What counts as mended: half the gap or less within the cost."""
    (x0, y0), (x1, y1) = at(-0.02, 0.5), at(largest_cost, 0.0)
    return f'<rect class="allowed" x="{x0:.1f}" y="{y0:.1f}" width="{x1 - x0:.1f}" height="{y1 - y0:.1f}"/>'


def _axes(at: Any, width: float, height: float, dearest: float, highest: float) -> str:
    (x0, y0), (x1, y1) = at(-0.02, 0.0), at(dearest, highest)
    parts = [f'<path class="axis" fill="none" d="M{x0:.1f} {y1:.1f}V{y0:.1f}H{x1:.1f}"/>']
    for cost in (0.0, 0.05, 0.1, 0.15, 0.2, 0.25):
        x, y = at(cost, 0.0)
        parts.append(f'<text class="tick" text-anchor="middle" x="{x:.1f}" y="{y + 14:.1f}">{cost * 100:.0f} %</text>')
    for share in (0.0, 0.5, 1.0, 1.5, 2.0):
        x, y = at(-0.02, share)
        parts.append(f'<text class="tick" text-anchor="end" x="{x - 5:.1f}" y="{y + 4:.1f}">{share:g}</text>')
    parts.append(
        f'<text class="tick" text-anchor="middle" x="{(width + x0) / 2:.1f}" y="{height - 4:.1f}">NDCG lost</text>'
        f'<text class="tick" transform="translate(11 {height / 2:.1f}) rotate(-90)" text-anchor="middle">'
        "gap, as it is: 1</text>"
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


def _title(frontier: Frontier) -> str:
    asks = " (asks for the group)" if frontier.asks_group else ""
    return f"{_TITLES[frontier.remedy]}{f': {frontier.of}' if frontier.of else ''}{asks}"


def _name(option: Option) -> str:
    return f"{_TITLES[option.remedy]}{f': {option.of}' if option.of else ''}"


def _span(span: Span) -> str:
    if span.lo is None or span.hi is None:
        return f"{span.value:.3f}"
    return f"{span.value:.3f} ({span.lo:.3f} to {span.hi:.3f})"


def _ends(span: Span) -> str:
    return "" if span.lo is None or span.hi is None else f"{_percent(span.lo)} to {_percent(span.hi)}"


def _percent(value: float, digits: int = 1) -> str:
    return f"{round(value * 100, digits) + 0.0:.{digits}f}\u202f%".replace("-", "\u2212")
