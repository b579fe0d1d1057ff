"""Small pictures as inline SVG: no library, no request; colours are the style sheet's, so dark mode works."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

__all__ = ["Series", "curve_chart", "dot_row", "gain_bar", "nice_limit", "nice_ticks"]

Series = Sequence[tuple[float, float]]
"""Points ``(x, y)``, in order of x."""


def nice_limit(value: float) -> float:
    """The next rounder number at or above ``value``: 1, 1.5, 2, 3, 4, 5, 6, 8 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * power >= value * (1 - 1e-9))


def nice_ticks(low: float, high: float, count: int = 3) -> list[float]:
    """About ``count`` round values within ``[low, high]``; the ends themselves when nothing round lies between."""
    if high <= low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9) * step
    ticks = [first + i * step for i in range(int((high - first) / step + 1e-9) + 1)]
    return ticks or [low, high]


def gain_bar(
    value: float | None, low: float | None, high: float | None, *, axis: tuple[float, float], label: str, tone: str
) -> str:
    """A bar from zero to ``value`` with its interval as a whisker, on an axis from ``-axis[0]`` to ``axis[1]``.

    ``tone`` is ``up``, ``down`` or ``even`` and picks the colour. What lies beyond the axis ends in an arrowhead.
    """
    width, margin = 150.0, 6.0

    def at(x: float) -> float:
        share = (min(max(x, -axis[0]), axis[1]) + axis[0]) / (axis[0] + axis[1])
        return margin + share * (width - 2 * margin)

    zero = at(0.0)
    parts = [
        f'<svg class="gain {tone}" viewBox="0 0 150 26" role="img" aria-label="{escape(label)}">',
        f'<line class="zero" x1="{zero:.1f}" x2="{zero:.1f}" y1="0" y2="26"/>',
    ]
    if value is not None:
        left, right = sorted((zero, at(value)))
        parts.append(
            f'<rect class="bar" x="{left:.1f}" y="8" width="{max(right - left, 0.8):.1f}" height="10" rx="1.5"/>'
        )
        if low is not None and high is not None:
            parts.append(f'<line class="whisker" x1="{at(low):.1f}" x2="{at(high):.1f}" y1="13" y2="13"/>')
            for end in (low, high):
                x = at(end)
                if -axis[0] <= end <= axis[1]:
                    parts.append(f'<line class="whisker" x1="{x:.1f}" x2="{x:.1f}" y1="9.5" y2="16.5"/>')
                else:
                    tip = 4 if end > 0 else -4
                    parts.append(f'<path class="tip" d="M{x:.1f} 9.5l{tip} 3.5l{-tip} 3.5z"/>')
    parts.append("</svg>")
    return "".join(parts)


def curve_chart(
    lines: Mapping[str, Series], references: Mapping[str, float], *, label: str, names: Mapping[str, str]
) -> str:
    """Validation figures over rounds: one line per recommender, one dashed level per reference.

    Keys of ``lines`` and ``references`` are style classes; ``names`` says them in words for the tooltips.
    """
    width, height, left, right, top, bottom = 260.0, 150.0, 40.0, 10.0, 10.0, 22.0
    ys = [y for series in lines.values() for _, y in series] + list(references.values())
    xs = [x for series in lines.values() for x, _ in series] or [0.0, 1.0]
    if not ys:
        return ""
    low, high = min(ys), max(ys)
    pad = (high - low) * 0.12 or max(abs(high) * 0.1, 0.001)
    low, high = max(0.0, low - pad), high + pad
    first, last = min(xs), max(max(xs), min(xs) + 1)

    def px(x: float) -> float:
        return left + (x - first) / (last - first) * (width - left - right)

    def py(y: float) -> float:
        return top + (high - y) / (high - low) * (height - top - bottom)

    parts = [f'<svg class="curve" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}">']
    for tick in nice_ticks(low, high):
        parts.append(
            f'<line class="grid" x1="{left:g}" x2="{width - right:g}" y1="{py(tick):.1f}" y2="{py(tick):.1f}"/>'
            f'<text class="tick" x="{left - 6:g}" y="{py(tick) + 3.5:.1f}" text-anchor="end">{tick:.3f}</text>'
        )
    for tick in sorted({first, last}):
        anchor = "start" if tick == first else "end"
        parts.append(
            f'<text class="tick" x="{px(tick):.1f}" y="{height - 6:g}" text-anchor="{anchor}">'
            f"{'round ' if tick == first else ''}{tick:g}</text>"
        )
    for name, level in references.items():
        parts.append(
            f'<line class="level {escape(name)}" x1="{left:g}" x2="{width - right:g}" y1="{py(level):.1f}" '
            f'y2="{py(level):.1f}"><title>{escape(names.get(name, name))}: {level:.4f}</title></line>'
        )
    for name, series in lines.items():
        if not series:
            continue
        points = " ".join(f"{px(x):.1f},{py(y):.1f}" for x, y in series)
        end_x, end_y = series[-1]
        parts.append(
            f'<polyline class="line {escape(name)}" points="{points}"/>'
            f'<circle class="end {escape(name)}" cx="{px(end_x):.1f}" cy="{py(end_y):.1f}" r="3.2">'
            f"<title>{escape(names.get(name, name))}, round {end_x:g}: {end_y:.4f}</title></circle>"
        )
    parts.append("</svg>")
    return "".join(parts)


def dot_row(
    dots: Mapping[str, tuple[float, float | None, float | None]], *, low: float, high: float, label: str
) -> str:
    """Several arms of one group as dots with intervals on a common axis; keys are style classes."""
    width, height = 220.0, 8.0 + 9.0 * max(len(dots), 1)

    def at(x: float) -> float:
        return 6 + (min(max(x, low), high) - low) / ((high - low) or 1.0) * (width - 12)

    parts = [f'<svg class="dots" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}">']
    parts.append(f'<line class="grid" x1="6" x2="{width - 6:g}" y1="{height - 1:g}" y2="{height - 1:g}"/>')
    for row, (name, (mean, lo, hi)) in enumerate(dots.items()):
        y = 7.0 + 9.0 * row
        if lo is not None and hi is not None:
            parts.append(
                f'<line class="range {escape(name)}" x1="{at(lo):.1f}" x2="{at(hi):.1f}" y1="{y:g}" y2="{y:g}"/>'
            )
        parts.append(f'<circle class="dot {escape(name)}" cx="{at(mean):.1f}" cy="{y:g}" r="3.4"/>')
    parts.append("</svg>")
    return "".join(parts)
