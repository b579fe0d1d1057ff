"""A network trained by partners that are processes of their own, under secure sums, from files to what is deployed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from koinon.server import read_release

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

Make = Callable[..., Any]
SETTINGS = {"items": "ids", "width": 8, "length": 8, "rounds": 2, "epochs": 1, "batch_users": 32, "negatives": 8}


def test_processes_under_secure_sums_give_the_simulations_network(
    make_shop: Make, federation: Make, command: Make, carriers: Make, tmp_path: Path
) -> None:
    shops = [make_shop(name, seed=seed, first=10 * seed) for seed, name in enumerate(("alpha", "beta", "gamma"))]
    learners = [{"name": "federated_hstu", "settings": SETTINGS}]
    simulated = command(federation(shops, learners=learners), out=tmp_path / "simulated")
    assert simulated.ended() == (0, "")
    secure = federation(shops, learners=learners, aggregation="secure", minimum_participants=3)
    real = command(secure, "--processes", out=tmp_path / "real")
    status, said = real.ended()
    assert (status, said) == (0, "")
    assert carriers(real.token) == []
    first, second = (read_release(out / "releases" / "0001") for out in (simulated.out, real.out))
    assert first.arrays.keys() == second.arrays.keys()
    for name, array in first.arrays.items():
        np.testing.assert_allclose(second.arrays[name], array, atol=1e-4)
    for shop in shops:
        assert (shop / "models" / "federated_hstu" / "recommender.json").is_file()
        assert (shop / "models" / "deployed.json").is_file()
