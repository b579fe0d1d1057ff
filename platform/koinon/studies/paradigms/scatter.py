"""Cost against quality as inline SVG: one point for each arm, named where it stands."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from koinon.studies.report.drawing import nice_ticks

__all__ = ["Point", "scatter"]

WIDTH, HEIGHT = 560.0, 360.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 120.0, 16.0, 44.0
LINE = 13.0


@dataclass(frozen=True)
class Point:
    """One arm: its name, style class, cost (above 0), quality with interval."""

    name: str
    tone: str
    cost: float
    quality: float
    lo: float | None
    hi: float | None


def scatter(points: Sequence[Point], *, label: str, cost: str, quality: str) -> str:
    """Draw points on a logarithmic axis of cost and a plain one of quality; names are moved apart, with a thin line.

    Every point has a title with its figures, so that nothing hangs on colour or on the eye alone.
    """
    if not points:
        return ""
    low_x, high_x = math.log10(min(p.cost for p in points)), math.log10(max(p.cost for p in points))
    low_x, high_x = math.floor(low_x - 0.15), math.ceil(high_x + 0.15)
    top = max(p.hi if p.hi is not None else p.quality for p in points) * 1.05 or 1.0

    def px(value: float) -> float:
        return LEFT + (math.log10(value) - low_x) / (high_x - low_x) * (WIDTH - LEFT - RIGHT)

    def py(value: float) -> float:
        return TOP + (top - value) / top * (HEIGHT - TOP - BOTTOM)

    parts = [f'<svg class="scatter" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="{escape(label)}">']
    for tick in nice_ticks(0.0, top, 4):
        parts.append(
            f'<line class="grid" x1="{LEFT:g}" x2="{WIDTH - RIGHT:g}" y1="{py(tick):.1f}" y2="{py(tick):.1f}"/>'
            f'<text class="tick" x="{LEFT - 6:g}" y="{py(tick) + 3.5:.1f}" text-anchor="end">{tick:.3g}</text>'
        )
    for power in range(low_x, high_x + 1):
        x = px(10.0**power)
        parts.append(
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP:g}" y2="{HEIGHT - BOTTOM:g}"/>'
            f'<text class="tick" x="{x:.1f}" y="{HEIGHT - BOTTOM + 15:g}" text-anchor="middle">{_power(power)}</text>'
        )
    parts.append(
        f'<text class="axis" x="{(LEFT + WIDTH - RIGHT) / 2:g}" y="{HEIGHT - 8:g}" text-anchor="middle">'
        f"{escape(cost)}</text>"
        f'<text class="axis" x="{LEFT:g}" y="{TOP - 5:g}" text-anchor="start">{escape(quality)}</text>'
    )
    for point, y in zip(points, _apart([(px(p.cost), py(p.quality)) for p in points]), strict=True):
        x, mid = px(point.cost), py(point.quality)
        if point.lo is not None and point.hi is not None:
            parts.append(
                f'<line class="range {point.tone}" x1="{x:.1f}" x2="{x:.1f}" y1="{py(point.lo):.1f}" '
                f'y2="{py(point.hi):.1f}"/>'
            )
        if abs(y - mid) > 3:
            parts.append(f'<line class="lead" x1="{x:.1f}" y1="{mid:.1f}" x2="{x + 8:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<circle class="dot {point.tone}" cx="{x:.1f}" cy="{mid:.1f}" r="4.5"><title>{escape(point.name)}: '
            f"{point.quality:.4f}, {point.cost:.3g}</title></circle>"
            f'<text class="name" x="{x + 10:.1f}" y="{y + 3.5:.1f}">{escape(point.name)}</text>'
        )
    parts.append("</svg>")
    return "".join(parts)


def _apart(places: Sequence[tuple[float, float]]) -> list[float]:
    """Heights of names such that none that would stand on another does."""
    heights = [y for _, y in places]
    order = sorted(range(len(places)), key=lambda i: places[i][1])
    placed: list[int] = []
    for i in order:
        y = places[i][1]
        while any(abs(y - heights[j]) < LINE and abs(places[i][0] - places[j][0]) < 130 for j in placed):
            y += 2.0
        heights[i] = min(y, HEIGHT - BOTTOM + 2)
        placed.append(i)
    return heights


def _power(power: int) -> str:
    value = 10.0**power
    return f"{value:,.0f}" if power >= 0 else f"{value:g}"
