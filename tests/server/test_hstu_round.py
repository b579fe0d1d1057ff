"""Rounds of federated HSTU with real partners in this process: plain and secure, and what partners keep and adopt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from koinon.server import read_release

Make = Callable[..., Any]
LEARNER = {
    "name": "federated_hstu",
    "settings": {"items": "ids", "width": 8, "length": 8, "rounds": 2, "epochs": 1, "batch_users": 32, "negatives": 8},
}
DEADLINES = {"join": 0.5, "catalogue": 60, "contribute": 60}


@pytest.fixture
def shops(make_shop: Make) -> list[Path]:
    """Three that share no work; one has fewer readers than a batch."""
    return [make_shop(name, seed=n, first=100 * n, users=users) for n, (name, users) in enumerate(SIZES.items())]


SIZES = {"alpha": 60, "beta": 40, "gamma": 9}


def ran(federation: Make, grid_of: Make, coordinate: Make, shops: list[Path], out: Path, **changes: Any) -> Path:
    adopting = changes.pop("adopting", False)
    deadlines = {**DEADLINES, "adopt": 120 if adopting else 0.5}  # who does not adopt does not answer
    config = federation(shops, learners=[LEARNER], deadlines=deadlines, **changes)
    coordinate(config, grid_of(config, adopting=adopting), out)
    return out / "releases" / "0001"


def test_secure_sums_give_the_release_of_open_ones(
    federation: Make, grid_of: Make, coordinate: Make, shops: list[Path], tmp_path: Path
) -> None:
    opened = read_release(ran(federation, grid_of, coordinate, shops, tmp_path / "open"))
    folder = ran(
        federation, grid_of, coordinate, shops, tmp_path / "secure", aggregation="secure", minimum_participants=3
    )
    secure = read_release(folder)
    assert opened.arrays.keys() == secure.arrays.keys()
    for name in opened.arrays:
        np.testing.assert_allclose(secure.arrays[name], opened.arrays[name], atol=1e-4)
    assert not any("vectors" in name for name in opened.arrays)


def test_partners_keep_their_private_part_between_rounds_and_fit_what_they_adopt(
    federation: Make, grid_of: Make, coordinate: Make, shops: list[Path], tmp_path: Path
) -> None:
    release = read_release(ran(federation, grid_of, coordinate, shops, tmp_path, adopting=True))
    assert release.arrays["positions"].shape == (9, 8)
    assert "items.vectors" not in release.arrays
    for shop in shops:
        (last,) = shop.rglob("federated_hstu-000002.safetensors")
        assert load_file(last)["private/items.vectors"].shape[1] == 8
        assert (shop / "models" / "federated_hstu" / "recommender.json").is_file()
        assert (shop / "models" / "deployed.json").is_file()
