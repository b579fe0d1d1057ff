"""The one notion of the unit: a person, whatever sources know them. Every figure, interval and test draws from here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from koinon.errors import EvaluationError

__all__ = ["Units", "unite"]


@dataclass(frozen=True)
class Units:
    """People, one row each.

    Attributes
    ----------
    table
        ``user_id``, ``stratum`` (the sources the person is at, joined by `` + ``), attributes, metrics (nan: none).
    metrics
        Names of the metric columns.
    excluded
        Why people were left out, and how many.
    """

    table: pl.DataFrame
    metrics: tuple[str, ...]
    excluded: Mapping[str, int]

    def __len__(self) -> int:
        return self.table.height

    @cached_property
    def values(self) -> NDArray[np.float64]:
        """``float64[users, metrics]``."""
        return self.table.select(pl.col(list(self.metrics)).cast(pl.Float64).fill_null(np.nan)).to_numpy()

    @cached_property
    def stratum(self) -> NDArray[np.int64]:
        """``int64[users]``: what the bootstrap keeps the size of."""
        return np.unique(self.table["stratum"].to_numpy(), return_inverse=True)[1].astype(np.int64)


def unite(
    observed: Mapping[str, pl.DataFrame], attributes: tuple[str, ...], excluded: Mapping[str, int] | None = None
) -> Units:
    """Bring sources together: one row per person, whoever knows them.

    Parameters
    ----------
    observed
        Source to its table: ``user_id``, the attributes, and one column per metric. All have the same columns.
    attributes
        Which columns are attributes. A person has one value of each, whoever states it.
    excluded
        Who was left out before.

    Returns
    -------
    Units
        A metric of somebody at several sources is the mean over those that have a value.

    Raises
    ------
    EvaluationError
        K531 a person is there twice in a source, has no id, or has different values of an attribute.
    """
    frames = []
    for source, frame in observed.items():
        if frame["user_id"].null_count() or frame["user_id"].n_unique() != frame.height:
            raise EvaluationError(
                "K531", f"{source}: a person has no id or stands in two rows.", "Give one row per person."
            )
        frames.append(frame.with_columns(pl.lit(source).alias("stratum")))
    rows = pl.concat(frames, how="vertical_relaxed")
    metrics = tuple(name for name in rows.columns if name not in (*attributes, "user_id", "stratum"))
    for name in attributes:
        if rows.drop_nulls(name).group_by("user_id").agg(pl.col(name).n_unique().alias("n"))["n"].max() not in (
            None,
            1,
        ):
            raise EvaluationError(
                "K531",
                f"A person has two values of {name!r} at two sources.",
                "Mend the users tables, or audit the sources apart.",
            )
    table = (
        rows.group_by("user_id")
        .agg(
            pl.col("stratum").unique().sort().str.join(" + "),
            *(pl.col(name).drop_nulls().first() for name in attributes),
            *(pl.col(name).cast(pl.Float64).fill_nan(None).mean().fill_null(float("nan")) for name in metrics),
        )
        .sort("user_id")
    )
    return Units(table, metrics, dict(excluded or {}))
