"""What federating brought each partner: who gains, who is harmed, which language least."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from koinon.errors import EvaluationError
from koinon.evaluation import paired_gain
from koinon.fairness.results import Federation, PartnerGain

__all__ = ["federation_gains", "read_arms"]

Doubles = NDArray[np.float64]
Arms = Mapping[str, tuple[Doubles, Doubles]]

_METRIC = "ndcg@10"


def federation_gains(arms: Arms, languages: Mapping[str, str], *, seed: int = 0, samples: int = 2000) -> Federation:
    """Compare each partner's users with themselves under its own local model.

    Parameters
    ----------
    arms
        Partner to ``(federated, local)``, ``float64[users]`` each, same users in the same order.
    languages
        Partner to the language of its catalogue, where it is known.
    seed, samples
        Of the bootstrap over users.

    Returns
    -------
    Federation
        A language's gain is the mean over its partners; harm is judged without correction for the number of partners,
        which errs on the partner's side.
    """
    found = []
    for partner, (federated, local) in sorted(arms.items()):
        gain = paired_gain(federated, local, seed=seed, samples=samples)
        found.append(
            PartnerGain(
                partner=partner,
                language=languages.get(partner),
                users=gain.n,
                local=float(local.mean()),
                federated=float(federated.mean()),
                gain=gain.gain,
                lo=gain.lo,
                hi=gain.hi,
                harmed=gain.hi < 0,
                users_worse=float((federated < local).mean()),
            )
        )
    spoken = sorted({one.language for one in found if one.language})
    by_language = {
        language: float(np.mean([one.gain for one in found if one.language == language])) for language in spoken
    }
    worst = min(by_language, key=lambda language: by_language[language], default=None)
    gains = [one.gain for one in found]
    return Federation(
        metric=_METRIC,
        partners=found,
        minimum=min(gains),
        median=float(np.median(gains)),
        share_harmed=float(np.mean([one.harmed for one in found])),
        worst_language=worst,
        worst_language_gain=None if worst is None else by_language[worst],
    )


def read_arms(folder: Path) -> tuple[dict[str, tuple[Doubles, Doubles]], dict[str, str]]:
    """Read every partner's figures from a study's output (``per_user/*.parquet`` and ``results.json``).

    Returns
    -------
    Partner to ``(federated, local)``, and partner to language.

    Raises
    ------
    EvaluationError
        K536 there are none, or a partner has not both arms for the same users.
    """
    arms: dict[str, tuple[Doubles, Doubles]] = {}
    for path in sorted((folder / "per_user").glob("*.parquet")):
        rows = pl.read_parquet(path, columns=["arm", "slice", "user", _METRIC]).filter(pl.col("slice") == "all")
        wide = rows.pivot(on="arm", index="user", values=_METRIC)
        if not {"federated", "local"} <= set(wide.columns) or wide.select("federated", "local").null_count().row(0) != (
            0,
            0,
        ):
            raise EvaluationError("K536", f"{path.stem} lacks an arm for some users.", "Run the study again.")
        arms[path.stem] = (wide["federated"].to_numpy(), wide["local"].to_numpy())
    if not arms:
        raise EvaluationError(
            "K536", f"{folder} holds no figures of a federation.", "Give the output folder of `koinon demo`."
        )
    try:
        partners = json.loads((folder / "results.json").read_text(encoding="utf-8"))["partners"]
        languages = {name: str(partner["language"]) for name, partner in partners.items() if name in arms}
    except (OSError, ValueError, KeyError, TypeError):
        languages = {}
    return arms, languages
