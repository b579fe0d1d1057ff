"""From measured cells to the Markdown of docs/baselines.md."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from koinon.evaluation import Evaluation, compare

__all__ = ["markdown"]

METRICS = {"ndcg@10": "NDCG@10", "hr@10": "HR@10"}


def markdown(rows: Path, studies: Sequence[str], columns: Mapping[str, str]) -> str:
    """One table for each metric: mean and interval; the best bold, ``=`` on what cannot be told from it."""
    parts = []
    for metric, title in METRICS.items():
        lines = [
            f"| {title} | users | {' | '.join(columns.values())} |",
            f"|---|---:|{'---:|' * len(columns)}",
        ]
        for study in studies:
            cells = {column: _read(rows / study / f"{column}.json") for column in columns}
            measured = {column: cell for column, cell in cells.items() if cell is not None and "test" in cell}
            if measured:
                lines.append(_line(rows / study, cells, measured, metric))
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _line(
    folder: Path, cells: Mapping[str, dict[str, Any] | None], measured: Mapping[str, dict[str, Any]], metric: str
) -> str:
    best = max(measured, key=lambda column: measured[column]["test"][metric]["mean"])
    arms = {column: Evaluation(pl.read_parquet(folder / f"{column}.parquet"), 10) for column in measured}
    others = compare(arms, best, metric=metric)
    level = set() if others.is_empty() else set(others.filter(verdict="same")["arm"])
    first = next(iter(measured.values()))
    written = []
    for column, cell in cells.items():
        if cell is None:
            written.append("not run")
        elif "left_out" in cell:
            written.append(cell["left_out"])
        else:
            said = _figure(cell["test"][metric])
            written.append(f"**{said}**" if column == best else f"{said} =" if column in level else said)
    return f"| {first['title']} | {first['test'][metric]['n']:,} | {' | '.join(written)} |"


def _figure(found: Mapping[str, float]) -> str:
    mean, lo, hi = (f"{found[name]:.4f}".lstrip("0") for name in ("mean", "lo", "hi"))
    return f"{mean} [{lo}, {hi}]"


def _read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text()) if path.exists() else None
