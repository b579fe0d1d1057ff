"""The first group table: how well each declared group of users is served, with its uncertainty and its silences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from koinon.errors import EvaluationError

__all__ = ["UNKNOWN", "group_table"]

UNKNOWN = "unknown"
"""The group of users whose attribute is null, empty, or who are not in the users table."""

SCHEMA: dict[str, pl.DataType] = {
    "attribute": pl.String(),
    "group": pl.String(),
    "n": pl.Int64(),
    "mean": pl.Float64(),
    "lo": pl.Float64(),
    "hi": pl.Float64(),
    "gap": pl.Float64(),
    "gap_lo": pl.Float64(),
    "gap_hi": pl.Float64(),
    "suppressed": pl.Boolean(),
    "note": pl.String(),
}


def group_table(
    per_user: pl.DataFrame,
    users: pl.DataFrame,
    attributes: Sequence[str],
    *,
    user_ids: Sequence[str],
    minimum: int = 20,
    metric: str = "ndcg@10",
    slice_: str = "all",
    seed: int = 0,
    samples: int = 2000,
) -> pl.DataFrame:
    """Describe a metric by group of each attribute.

    Parameters
    ----------
    per_user
        ``Evaluation.per_user``: one row per slice and user.
    users
        ``user_id`` and the declared attributes.
    attributes
        Columns of ``users``, each read as categories.
    user_ids
        ``Domain.user_ids``: what ``per_user``'s column ``user`` indexes.
    minimum
        Groups of fewer users are suppressed: neither their figures nor their number is told.
    metric, slice_
        What is averaged, over which slice.
    seed, samples
        Of the bootstrap; intervals are 95 %.

    Returns
    -------
    One row per attribute and group, by size within the attribute: ``attribute, group, n, mean, lo, hi, gap, gap_lo,
    gap_hi, suppressed, note``. ``gap`` is the group's mean minus that of all other users whose value is known; an
    interval that holds 0 shows no difference, not equality. Users whose value is not known are group ``unknown``:
    counted, averaged, and left out of every gap. Where one group alone would be suppressed, its number could be told
    from the total, so the next smallest is suppressed with it.

    Raises
    ------
    EvaluationError
        K512 the users table has no such column, K513 ``minimum`` is below 1.
    """
    missing = [name for name in attributes if name not in users.columns]
    if missing:
        raise EvaluationError(
            "K512",
            f"The users table has no column {missing[0]!r}.",
            f"Its columns: {', '.join(users.columns)}.",
        )
    if minimum < 1:
        raise EvaluationError("K513", f"A minimum of {minimum} users cannot be.", "Use at least 1; 20 is usual.")
    asked = per_user.filter(pl.col("slice") == slice_)
    named = asked.select(
        pl.Series("user_id", [user_ids[row] for row in asked["user"]], dtype=pl.String),
        pl.col(metric).alias("value"),
    )
    known = users.select("user_id", *(pl.col(name).cast(pl.String) for name in attributes)).unique("user_id")
    joined = named.join(known, on="user_id", how="left", maintain_order="left")
    rows = [row for name in attributes for row in _rows(joined, name, minimum, seed, samples)]
    return pl.DataFrame(rows, schema=SCHEMA)


def _rows(joined: pl.DataFrame, attribute: str, minimum: int, seed: int, samples: int) -> list[dict[str, object]]:
    """The table's rows of one attribute."""
    value = pl.col(attribute).str.strip_chars()
    group = pl.when(value.is_null() | (value == "")).then(pl.lit(UNKNOWN)).otherwise(value)
    table = joined.select(group.alias("group"), "value")
    sizes = table.group_by("group").len().sort(["len", "group"], descending=[True, False])
    hidden = _hidden(dict(sizes.iter_rows()), minimum)
    labels, values = table["group"].to_numpy(), table["value"].to_numpy()
    # a suppressed group stays out of everybody's gap, or it could be worked out from them
    shown = ~np.isin(labels, [*hidden, UNKNOWN])
    rng = np.random.default_rng(seed)
    rows: list[dict[str, object]] = []
    for name, size in sizes.iter_rows():
        row: dict[str, object] = {"attribute": attribute, "group": name, "suppressed": name in hidden}
        if name in hidden:
            rows.append({**row, "note": f"suppressed: fewer than {minimum} users, or needed to hide a group that is"})
            continue
        own = _means(values[labels == name], rng, samples)
        lo, hi = np.quantile(own, [0.025, 0.975])
        row |= {"n": size, "mean": float(values[labels == name].mean()), "lo": float(lo), "hi": float(hi)}
        others = values[shown & (labels != name)]
        if name == UNKNOWN:
            row["note"] = "value not declared; in no gap"
        elif len(others) == 0:
            row["note"] = "no other group to compare with"
        else:
            lo, hi = np.quantile(own - _means(others, rng, samples), [0.025, 0.975])
            gap = float(values[labels == name].mean() - others.mean())
            row |= {"gap": gap, "gap_lo": float(lo), "gap_hi": float(hi)}
        rows.append(row)
    return rows


def _hidden(sizes: dict[str, int], minimum: int) -> set[str]:
    """Groups too small to tell of; never exactly one where there is a second to hide it behind."""
    hidden = {name for name, size in sizes.items() if size < minimum}
    if len(hidden) == 1 and len(sizes) > 1:
        rest = sorted((size, name) for name, size in sizes.items() if name not in hidden)
        hidden.add(rest[0][1])
    return hidden


def _means(values: NDArray[np.float64], rng: np.random.Generator, samples: int) -> NDArray[np.float64]:
    """Means of resampled users, ``float64[samples]``."""
    users = len(values)
    means: NDArray[np.float64] = np.array([values[rng.integers(users, size=users)].mean() for _ in range(samples)])
    return means
