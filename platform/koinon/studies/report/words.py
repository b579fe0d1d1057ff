"""Figures as a person reads them: fixed digits, a true minus, a dash for what there is not."""

from __future__ import annotations

import math

from koinon.studies.report.results import Estimate

__all__ = ["DASH", "cell", "figure", "percent", "size"]

DASH = "\u2013"
_MINUS = "\u2212"


def figure(value: float | None, digits: int = 4) -> str:
    """A metric, or a dash where there is none."""
    return DASH if value is None else f"{value:.{digits}f}".replace("-", _MINUS)


def percent(value: float | None, digits: int = 1) -> str:
    """A signed share in per cent, with a true minus."""
    if value is None:
        return DASH
    said = f"{abs(value) * 100:.{digits}f}"
    sign = "" if float(said) == 0 else ("+" if value > 0 else _MINUS)
    return f"{sign}{said}\u202f%"


def size(count: float) -> str:
    """Bytes in the unit a person would say."""
    if count < 1000:
        return f"{count:,.0f} bytes"
    exponent = min(3, int(math.log10(count)) // 3)
    return f"{count / 1000**exponent:,.1f} {('', 'kB', 'MB', 'GB')[exponent]}"


def cell(estimate: Estimate | None) -> dict[str, str | float]:
    """A mean, its interval in small print, and what a table sorts by."""
    if estimate is None or estimate.mean is None:
        return {"mean": DASH, "span": "", "sort": -1.0}
    span = "" if estimate.lo is None else f"{figure(estimate.lo, 3)}{DASH}{figure(estimate.hi, 3)}"
    return {"mean": figure(estimate.mean), "span": span, "sort": estimate.mean}
