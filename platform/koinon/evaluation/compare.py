"""Several arms on the same users: means, paired gains over one of them, and who is harmed."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from koinon.errors import EvaluationError
from koinon.evaluation.protocol import Evaluation
from koinon.evaluation.significance import holm, paired_gain

__all__ = ["compare"]


def compare(
    arms: Mapping[str, Evaluation],
    baseline: str,
    *,
    metric: str | None = None,
    slice_: str = "all",
    seed: int = 0,
    samples: int = 2000,
) -> pl.DataFrame:
    """Compare every arm with ``baseline`` on the users of one slice.

    Returns
    -------
    One row per other arm: ``arm, baseline, n, mean, baseline_mean, gain, lo, hi, relative, relative_lo, relative_hi,
    p, p_holm, verdict``; ``verdict`` is ``better``, ``worse`` (that arm harms) or ``same``, at 5 % after Holm over the
    arms compared here.

    Raises
    ------
    EvaluationError
        K503 the arms were not evaluated on the same users, K506 there is no such arm.
    """
    if baseline not in arms:
        raise EvaluationError("K506", f"There is no arm {baseline!r}.", f"Choose from {', '.join(arms)}.")
    reference = arms[baseline].per_user.filter(pl.col("slice") == slice_)
    base = arms[baseline].values(metric, slice_)
    rows = []
    for arm, evaluation in arms.items():
        if arm == baseline:
            continue
        if not evaluation.per_user.filter(pl.col("slice") == slice_)["row"].equals(reference["row"]):
            raise EvaluationError(
                "K503",
                f"Arms {arm!r} and {baseline!r} were evaluated on other users.",
                "Evaluate all arms on one evaluation set.",
            )
        values = evaluation.values(metric, slice_)
        gain = paired_gain(values, base, seed=seed, samples=samples)
        means = {"mean": evaluation.mean(metric, slice_), "baseline_mean": arms[baseline].mean(metric, slice_)}
        rows.append({"arm": arm, "baseline": baseline, **means, **gain.__dict__})
    adjusted = holm([row["p"] for row in rows])
    for row, p in zip(rows, adjusted, strict=True):
        row["p_holm"] = float(p)
        row["verdict"] = "same" if not p < 0.05 else "better" if row["gain"] > 0 else "worse"
    return pl.DataFrame(rows)
