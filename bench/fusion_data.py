"""What the fusion benchmarks share: data sets with cold items, cells on disk, latency, and a table of paired gains."""

from __future__ import annotations

import json
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from bench.baseline_studies import STUDIES
from koinon.config import write_atomically
from koinon.data import EvaluationSet, Split
from koinon.evaluation import Evaluation, holm, paired_gain, requests_of
from koinon.recommenders import Recommender
from koinon.recommenders.conventional import SemanticEASE, SemanticEaseConfig
from koinon.recommenders.tuning import Axis, Validator, descend
from koinon.space import Space

__all__ = ["SLICES", "Cells", "gains", "kept_settings", "latency", "split_of", "told", "tuned_semantic", "withheld"]

SLICES = ("all", "cold_items", "cold_among_cold", "long_tail")
COLD = 0.05
"""Share of the catalogue whose events before the test are withheld."""


def split_of(name: str, data: Path | None, *, cold: float = COLD, seed: int = 7) -> Split:
    """One of the studies of docs/baselines.md; where its protocol leaves nothing cold, items are withheld."""
    split = STUDIES[name].split(name, data)
    return split if split.cold_item.mean() > cold / 2 else withheld(split, cold, seed)


def withheld(split: Split, share: float, seed: int) -> Split:
    """A share of the catalogue, drawn by ``seed``, is in nobody's training events or history: it is new in the test.

    Whoever took one of them last, or last but one, is asked for it; people left without training events stay.
    """
    drawn = np.random.default_rng(seed).random(split.train.n_items) < share
    events = split.train.events
    train = split.train.with_events(events.take(~drawn[events.item]))
    return Split(
        train, _forget(split.validation, drawn), _forget(split.test, drawn), train.item_counts == 0, split.events
    )


def _forget(rows: EvaluationSet, drawn: np.ndarray) -> EvaluationSet:
    keep = ~drawn[rows.history_items]
    row = np.repeat(np.arange(len(rows)), np.diff(rows.history_indptr))
    counts = np.bincount(row[keep], minlength=len(rows))
    return replace(
        rows,
        history_indptr=np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
        history_items=rows.history_items[keep],
        history_times=None if rows.history_times is None else rows.history_times[keep],
        history_marks=None if rows.history_marks is None else rows.history_marks.take(np.flatnonzero(keep)),
    )


def kept_settings(study: str, column: str) -> dict[str, Any]:
    """Settings that were found on validation for the baseline table."""
    path = Path(__file__).parent / "configs" / "baselines" / f"{study}.toml"
    found: dict[str, Any] = tomllib.loads(path.read_text())[column]
    return found


def tuned_semantic(split: Split, space: Space, folder: Path) -> SemanticEaseConfig:
    """Semantic EASE's settings: those of the baseline table, and what its texts count tuned on this split; kept."""
    path = folder / "semantic-ease" / f"{split.train.name}.json"
    if not path.exists():
        start = SemanticEaseConfig(**kept_settings(split.train.name, "semantic-ease"))
        validator = Validator(split.train, split.validation, "ndcg@10", np.random.default_rng(0), 2000)

        def values(config: SemanticEaseConfig) -> np.ndarray:
            model = SemanticEASE(config).fit(split.train, space, rng=np.random.default_rng(0))
            return validator.values(model.score(validator.requests))

        best, _ = descend("semantic-ease", start, TEXT_AXES, values, budget=12, caution=0.5)
        assert isinstance(best, SemanticEaseConfig)
        write_atomically(path, best.model_dump_json(indent=1) + "\n")
    return SemanticEaseConfig.model_validate_json(path.read_text())


TEXT_AXES = (
    Axis("cold_weight", (0.03, 0.3, 1.0)),
    Axis("cold_blend", (0.3, 1.0, 3.0)),
    Axis("beta", (0.5, 2.0, 4.0), relative=True),
    Axis("cold_weight", (0.5, 2.0), relative=True),
)


def latency(model: Recommender, rows: EvaluationSet, *, count: int = 100, seed: int = 0) -> dict[str, float]:
    """Milliseconds of processor time of a list of ten for one request: median and 95th percentile.

    Ten requests before do not count. It is not the clock on the wall, as the machine does other work.
    """
    chosen = np.random.default_rng(seed).permutation(np.flatnonzero(rows.main))[: count + 10]
    spent = []
    for request in requests_of(rows, chosen.tolist()):
        began = time.process_time()
        model.recommend([request], 10)
        spent.append(1000 * (time.process_time() - began))
    p50, p95 = np.quantile(spent[10:], [0.5, 0.95])
    return {"p50_ms": float(p50), "p95_ms": float(p95)}


class Cells:
    """Finished cells in a folder: what was found of each, and every person's values."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, name: str) -> bool:
        return self._place(name).with_suffix(".json").exists()

    def keep(self, name: str, found: Mapping[str, Any], figures: Evaluation) -> None:
        place = self._place(name)
        place.parent.mkdir(parents=True, exist_ok=True)
        figures.save(place.with_suffix(".parquet"))
        write_atomically(place.with_suffix(".json"), json.dumps(dict(found), indent=1) + "\n")

    def found(self, name: str) -> dict[str, Any]:
        read: dict[str, Any] = json.loads(self._place(name).with_suffix(".json").read_text())
        return read

    def figures(self, name: str) -> Evaluation:
        return Evaluation(pl.read_parquet(self._place(name).with_suffix(".parquet")), 10)

    def _place(self, name: str) -> Path:
        return self.folder / name.replace(":", "-").replace("+", "-and-")


def gains(cells: Cells, arms: Mapping[str, str], baseline: str, slice_: str, *, seed: int = 0) -> list[dict[str, Any]]:
    """Every arm's NDCG@10 in a slice and its paired gain over one of them, Holm over the arms."""
    base = cells.figures(arms[baseline]).values(slice_=slice_)
    rows: list[dict[str, Any]] = []
    for arm, cell in arms.items():
        values = cells.figures(cell).values(slice_=slice_)
        rows.append({"arm": arm, "mean": float(values.mean()), "n": len(values)})
        if arm != baseline:
            rows[-1] |= vars(paired_gain(values, base, seed=seed))
    others = [row for row in rows if "p" in row]
    for row, p in zip(others, holm([row["p"] for row in others]), strict=True):
        row["p_holm"] = float(p)
    return rows


def told(rows: Sequence[Mapping[str, Any]]) -> str:
    """The same as lines of a table."""
    lines = []
    for row in rows:
        line = f"{row['arm']:32} {row['mean']:.4f} (n {row['n']})"
        if "gain" in row:
            line += (
                f"  {row['gain']:+.4f} [{row['lo']:+.4f}, {row['hi']:+.4f}] p {row['p']:.3f} Holm {row['p_holm']:.3f}"
            )
        lines.append(line)
    return "\n".join(lines)
