"""Rounds of federated LoRA with real partners in this process: plain and secure, and what partners keep and adopt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from koinon.server import read_release
from koinon.server.coordinator import Coordinator
from koinon.server.progress import ProgressLog
from koinon.space import open_space

Make = Callable[..., Any]
LEARNER = {
    "name": "federated_lora",
    "settings": {"rank": 2, "private_rank": 2, "rounds": 2, "local_steps": 2, "batch_pairs": 8, "finish": 1},
}
DEADLINES = {"join": 0.5, "catalogue": 60, "contribute": 120}
SIZES = {"alpha": 40, "beta": 20, "gamma": 9}


@pytest.fixture
def shops(make_shop: Make) -> list[Path]:
    """Three that share no work."""
    return [make_shop(name, seed=n, first=100 * n, users=users) for n, (name, users) in enumerate(SIZES.items())]


def ran(federation: Make, grid_of: Make, shops: list[Path], out: Path, **changes: Any) -> Path:
    adopting = changes.pop("adopting", False)
    deadlines = {**DEADLINES, "adopt": 120 if adopting else 0.5}  # who does not adopt does not answer
    config = federation(shops, learners=[LEARNER], deadlines=deadlines, **changes)
    space = open_space(config.encoder, cache_dir=out / "vectors")
    Coordinator(grid_of(config, adopting=adopting), config, out, space, ProgressLog(out / "events.jsonl")).run()
    return out / "releases" / "0001"


def test_secure_sums_give_the_release_of_open_ones(
    federation: Make, grid_of: Make, shops: list[Path], byte_encoder: str, tmp_path: Path
) -> None:
    opened = read_release(ran(federation, grid_of, shops, tmp_path / "open", encoder=byte_encoder))
    folder = ran(
        federation, grid_of, shops, tmp_path / "secure", aggregation="secure", minimum_participants=3,
        encoder=byte_encoder,
    )  # fmt: skip
    secure = read_release(folder)
    assert set(opened.arrays) == set(secure.arrays) == {"up"}
    assert np.abs(opened.arrays["up"]).max() > 1e-4
    np.testing.assert_allclose(secure.arrays["up"], opened.arrays["up"], atol=1e-4)


def test_partners_keep_their_private_part_between_rounds_and_fit_what_they_adopt(
    federation: Make, grid_of: Make, shops: list[Path], byte_encoder: str, tmp_path: Path
) -> None:
    ran(federation, grid_of, shops, tmp_path, adopting=True, encoder=byte_encoder)
    for shop in shops:
        (last,) = shop.rglob("federated_lora-000002.safetensors")
        kept = load_file(last)
        assert "private/temperature" in kept
        assert any(".lora_B.private." in name and array.any() for name, array in kept.items())
        assert not any(".default." in name for name in kept)
        assert (shop / "models" / "federated_lora" / "recommender.json").is_file()
        assert (shop / "models" / "deployed.json").is_file()
