"""What every arm of a partner is worth on its test set, loaded from the partner's own folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from koinon.config import atomic_path
from koinon.data import Split, SplitConfig, Vault, make_split
from koinon.data.public import DEMO_PARTNERS
from koinon.evaluation import Chance, Evaluation, evaluate
from koinon.recommenders import store
from koinon.recommenders.conventional import EaseConfig, SemanticEASE
from koinon.space import Space
from koinon.studies.report import PartnerResult
from koinon.studies.report.results import Counts, Curve, Egress

__all__ = [
    "curves",
    "egress",
    "known_elsewhere",
    "measure_arms",
    "own_settings",
    "partner_result",
    "read_splits",
    "write_per_user",
]

LEARNERS = ("federated_gram", "federated_adapters")


def read_splits(folders: Mapping[str, Path], config: SplitConfig) -> dict[str, Split]:
    """Read every partner's vault and divide it as the federation does."""
    return {name: make_split(name, Vault(folder).tables(), config) for name, folder in folders.items()}


def known_elsewhere(splits: Mapping[str, Split]) -> dict[str, NDArray[np.int32]]:
    """Partner to the rows of its users who are also at another partner.

    Only a study over public data can know this: user ids never leave a partner.
    """
    people = {name: set(split.train.user_ids) for name, split in splits.items()}
    rows = {}
    for name, split in splits.items():
        others: set[str] = set().union(*(ids for other, ids in people.items() if other != name))
        rows[name] = np.array([r for r, user in enumerate(split.train.user_ids) if user in others], dtype=np.int32)
    return rows


def own_settings(folder: Path, split: Split, space: Space) -> EaseConfig | None:
    """Return what a partner's own model with the space was tuned to, if it is of that kind."""
    recommender = store.load(folder / "models" / "local_space", split.train, space)
    return recommender.config if isinstance(recommender, SemanticEASE) else None


def measure_arms(
    folder: Path, split: Split, space: Space, elsewhere: NDArray[np.int32]
) -> tuple[dict[str, Evaluation], Evaluation]:
    """Evaluate every arm that the partner has kept on its test set.

    Returns
    -------
    arms
        ``local``, ``local_space`` and the federated learners' arms.
    chance
        What a random order reaches.
    """
    domain = split.train
    vectors = space.encode(domain.texts)
    arms = {}
    for arm in ("local", "local_space", *LEARNERS):
        if not (folder / "models" / arm / store.DESCRIPTION).is_file():
            continue
        recommender = store.load(folder / "models" / arm, domain, space)
        arms[arm] = evaluate(recommender, domain, split.test, known_elsewhere=elsewhere, vectors=vectors, beyond=True)
    chance = Chance().fit(domain, space, rng=np.random.default_rng(0))
    return arms, evaluate(chance, domain, split.test, slices=("cold_among_cold",))


def ceiling(folder: Path, arms: Mapping[str, Evaluation], pooled: Evaluation, validation: float) -> Evaluation:
    """Return the best that whoever held everybody's raw data could deploy here, chosen on validation.

    Candidates are the recommender tuned on the joined data (``pooled``, with its mean on validation), the partner's
    own model with the space, and the federated learners' models: these rest on sums over all partners, which whoever
    held the data could form as well.
    """
    candidates = {"pooled": (validation, pooled)}
    for arm in arms:
        values = json.loads((folder / "models" / arm / "arm.json").read_text(encoding="utf-8"))["validation"]
        candidates[arm] = (float(np.mean(values)), arms[arm])
    return max(candidates.values(), key=lambda candidate: candidate[0])[1]


def partner_result(
    name: str,
    folder: Path,
    split: Split,
    arms: Mapping[str, Evaluation],
    chance: Evaluation,
    elsewhere: NDArray[np.int32],
) -> PartnerResult:
    """Gather what the report needs of one partner; ``federated`` is the arm that the partner has chosen."""
    chosen = str(json.loads((folder / "models" / "deployed.json").read_text(encoding="utf-8"))["arm"])
    partner = DEMO_PARTNERS[name]
    domain = split.train
    return PartnerResult(
        domain=partner.kind,
        language=partner.language,
        region=partner.region,
        protocol="holdout" if domain.events.time is None else "time",
        counts=Counts(
            users=domain.n_users,
            items=domain.n_items,
            events=len(split.events),
            test_users=int(split.test.main.sum()),
            cold_items=int(split.cold_item.sum()),
            cold_users=int(split.test.cold_user.sum()),
            shared_users=len(elsewhere),
        ),
        arms={**arms, "federated": arms[chosen]},
        chosen=chosen,
        chance=chance,
        attributes=_attributes(folder, split),
    )


def _attributes(folder: Path, split: Split) -> pl.DataFrame:
    users = Vault(folder).tables().users
    columns = [column for column in users.columns if column != "user_id" and column != "occupation"]
    rows = pl.DataFrame({"user_id": split.train.user_ids}).with_row_index("user").with_columns(pl.col("user").cast(int))
    joined = rows.join(users, on="user_id", how="left", maintain_order="left")
    return joined.select("user", pl.col(columns).cast(pl.String))


def write_per_user(path: Path, arms: Mapping[str, Evaluation]) -> None:
    """Keep every arm's per-user values in one Parquet file; rows, not user ids."""
    frame = pl.concat(
        [found.per_user.select(pl.lit(arm).alias("arm"), pl.all()) for arm, found in arms.items()], how="diagonal"
    )
    with atomic_path(path) as temporary:
        frame.write_parquet(temporary)


def egress(folder: Path) -> Egress:
    """Sum up what left one partner, from its own log."""
    messages, kinds = 0, dict[str, int]()
    log = folder / "federation" / "egress.jsonl"
    for line in log.read_text(encoding="utf-8").splitlines() if log.is_file() else ():
        entry = json.loads(line)
        messages += 1
        kinds[entry["purpose"]] = kinds.get(entry["purpose"], 0) + int(entry["bytes"])
    return Egress(messages=messages, bytes=sum(kinds.values()), kinds=kinds)


def curves(rounds: tuple[Mapping[str, object], ...], adopted: Mapping[str, Mapping[str, float]]) -> list[Curve]:
    """Validation NDCG@10 over rounds, one curve per partner and learner that can be scored between rounds."""
    found: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for event in rounds:
        metrics = event["metrics"]
        assert isinstance(metrics, dict)
        for partner, figures in metrics.items():
            if "ndcg@10" in figures:
                key = (partner, str(event["learner"]))
                found.setdefault(key, []).append((int(str(event["round"])), float(figures["ndcg@10"])))
    return [
        Curve(
            partner=partner,
            recommender=learner,
            rounds=[number for number, _ in points],
            values=[value for _, value in points],
            references={
                arm: adopted[partner][f"ndcg@10/{arm}"]
                for arm in ("local", "local_space")
                if f"ndcg@10/{arm}" in adopted.get(partner, {})
            },
        )
        for (partner, learner), points in found.items()
    ]
