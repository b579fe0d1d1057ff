"""Small pictures as inline SVG: an interval against its threshold, and a group's mean beside the others'.

What each part looks like stands in its attributes, for printers that give a picture no style sheet, and once more in
``report.css``, where a dark page has other colours.
"""

from __future__ import annotations

from html import escape

__all__ = ["interval", "look", "mean_on", "opened"]

_INK, _SOFT, _LINE, _GOOD = "#1d1c1a", "#5f5b54", "#e3dfd6", "#0c7364"

_LOOK = {
    "axis": f'fill="none" stroke="{_LINE}"',
    "allowed": f'fill="{_GOOD}" fill-opacity="0.13"',
    "threshold": f'stroke="{_GOOD}" stroke-width="1.6" stroke-dasharray="3 2"',
    "range": f'stroke="{_INK}" stroke-width="2"',
    "dot": f'fill="{_INK}"',
    "overall": f'stroke="{_SOFT}" stroke-dasharray="4 3"',
    "path": f'fill="none" stroke="{_SOFT}" stroke-width="1.3" opacity="0.45"',
    "path lead": f'fill="none" stroke="{_INK}" stroke-width="2"',
    "stop": f'fill="{_SOFT}" opacity="0.45"',
    "stop lead": f'fill="{_INK}"',
    "mark": f'fill="{_INK}" font-size="12" font-weight="700" font-family="sans-serif"',
    "tick": f'fill="{_SOFT}" font-size="11" font-family="sans-serif"',
}


def look(name: str) -> str:
    """Return the attributes of one part of a picture: its class, and what that looks like."""
    return f'class="{name}" {_LOOK[name]}'


def opened(kind: str, width: float, height: float, label: str) -> str:
    """Begin a picture; ``label`` is what it says to whoever cannot see it."""
    size = f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}"'
    return f'<svg class="{kind}" {size} role="img" aria-label="{escape(label)}">'


def interval(lo: float, hi: float, point: float, tolerance: float | None, limit: float, *, label: str) -> str:
    """The interval of a gap on an axis from 0 to ``limit``, its observed value as a dot, the tolerance as a line."""
    width, margin = 220.0, 5.0

    def at(x: float) -> float:
        return margin + min(max(x, 0.0), limit) / limit * (width - 2 * margin)

    parts = [
        opened("interval", width, 24, label),
        f'<line {look("axis")} x1="{at(0):.1f}" x2="{at(limit):.1f}" y1="20" y2="20"/>',
    ]
    if tolerance is not None:
        parts.append(f'<rect {look("allowed")} x="{at(0):.1f}" y="3" width="{at(tolerance) - at(0):.1f}" height="17"/>')
        parts.append(f'<line {look("threshold")} x1="{at(tolerance):.1f}" x2="{at(tolerance):.1f}" y1="1" y2="22"/>')
    parts.append(f'<line {look("range")} x1="{at(lo):.1f}" x2="{at(hi):.1f}" y1="11" y2="11"/>')
    parts.append(f'<circle {look("dot")} cx="{at(point):.1f}" cy="11" r="3.6"/></svg>')
    return "".join(parts)


def mean_on(axis: tuple[float, float], mean: float, lo: float, hi: float, overall: float | None, *, label: str) -> str:
    """One group's mean with its interval on an axis that all groups share; the overall mean as a dashed line."""
    width, (low, high) = 220.0, axis

    def at(x: float) -> float:
        return 5 + (x - low) / ((high - low) or 1.0) * (width - 10)

    parts = [opened("interval", width, 24, label)]
    if overall is not None and low <= overall <= high:
        parts.append(f'<line {look("overall")} x1="{at(overall):.1f}" x2="{at(overall):.1f}" y1="0" y2="24"/>')
    parts.append(f'<line {look("range")} x1="{at(lo):.1f}" x2="{at(hi):.1f}" y1="12" y2="12"/>')
    parts.append(f'<circle {look("dot")} cx="{at(mean):.1f}" cy="12" r="3.6"/></svg>')
    return "".join(parts)
