"""A small training; run as a program it is there to be killed. ``killed_training.py CHECKPOINT``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from koinon.data import Domain, Interactions
from koinon.data.building import item_table
from koinon.recommenders.sequential import HSTU, HSTUConfig

CONFIG = HSTUConfig(
    epochs=8, batch_users=8, length=10, width=16, negatives=8, checkpoint_seconds=0.0, ranking_negatives=2, patience=8
)


def domain() -> Domain:
    """Forty people, eight events each."""
    rng = np.random.default_rng(2)
    names = [f"i{item:02d}" for item in range(30)]
    item = np.concatenate([rng.permutation(30)[:8] for _ in range(40)]).astype(np.int32)
    time = np.tile(np.arange(8), 40) * 10_000_000
    events = Interactions(np.repeat(np.arange(40), 8).astype(np.int32), item, time.astype(np.int64))
    return Domain("forty", item_table(names, names, names), tuple(map(str, range(40))), events)


def train(checkpoint: Path | None, config: HSTUConfig = CONFIG, seed: int = 0) -> HSTU:
    """Train, or go on from the checkpoint; stops by a value that depends on the weights."""

    def validate(model: HSTU) -> float:
        return float(model.network.items.vectors.detach().std())

    return HSTU(config).fit(domain(), None, rng=np.random.default_rng(seed), validate=validate, checkpoint=checkpoint)


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(Path(sys.argv[1]))
