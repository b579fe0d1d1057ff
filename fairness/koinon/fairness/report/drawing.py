"""Two small pictures as inline SVG: an interval against its threshold, and a group's mean beside the others'."""

from __future__ import annotations

from html import escape

__all__ = ["interval", "mean_on"]


def interval(lo: float, hi: float, point: float, tolerance: float | None, limit: float, *, label: str) -> str:
    """The interval of a gap on an axis from 0 to ``limit``, its observed value as a dot, the tolerance as a line."""
    width, margin = 220.0, 5.0

    def at(x: float) -> float:
        return margin + min(max(x, 0.0), limit) / limit * (width - 2 * margin)

    parts = [
        f'<svg class="interval" viewBox="0 0 {width:g} 24" role="img" aria-label="{escape(label)}">',
        f'<line class="axis" x1="{at(0):.1f}" x2="{at(limit):.1f}" y1="20" y2="20"/>',
    ]
    if tolerance is not None:
        parts.append(f'<rect class="allowed" x="{at(0):.1f}" y="3" width="{at(tolerance) - at(0):.1f}" height="17"/>')
        parts.append(f'<line class="threshold" x1="{at(tolerance):.1f}" x2="{at(tolerance):.1f}" y1="1" y2="22"/>')
    parts.append(f'<line class="range" x1="{at(lo):.1f}" x2="{at(hi):.1f}" y1="11" y2="11"/>')
    parts.append(f'<circle class="dot" cx="{at(point):.1f}" cy="11" r="3.6"/></svg>')
    return "".join(parts)


def mean_on(axis: tuple[float, float], mean: float, lo: float, hi: float, overall: float | None, *, label: str) -> str:
    """One group's mean with its interval on an axis that all groups share; the overall mean as a dashed line."""
    width, (low, high) = 220.0, axis

    def at(x: float) -> float:
        return 5 + (x - low) / ((high - low) or 1.0) * (width - 10)

    parts = [f'<svg class="interval" viewBox="0 0 {width:g} 24" role="img" aria-label="{escape(label)}">']
    if overall is not None and low <= overall <= high:
        parts.append(f'<line class="overall" x1="{at(overall):.1f}" x2="{at(overall):.1f}" y1="0" y2="24"/>')
    parts.append(f'<line class="range" x1="{at(lo):.1f}" x2="{at(hi):.1f}" y1="12" y2="12"/>')
    parts.append(f'<circle class="dot" cx="{at(mean):.1f}" cy="12" r="3.6"/></svg>')
    return "".join(parts)
