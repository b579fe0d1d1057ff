"""Whole rounds under a privacy budget: how much noise is in a total, and what the release says of the budget."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from koinon.recommenders.federated.budgeting import prices
from koinon.server import FederationConfig, read_release
from koinon.server.record import Record

Make = Callable[..., Any]
LEARNER = "federated_popularity"
WORKS = 800
PRIVATE = {
    "learners": [{"name": LEARNER, "settings": {"rounds": 1}}],
    "split": {"minimum_item_events": 1},
    "metrics": [],
}
BUDGET = {"epsilon": 2.0, "delta": 1e-5, "people": 1000, "partners": 4, "sharing": [], "unsafe_seed": 5}
SLOW = {"join": 0.5, "catalogue": 0.6, "contribute": 0.6, "adopt": 0.2}
SECURE = {**PRIVATE, "aggregation": "secure", "minimum_participants": 3, "deadlines": SLOW}


@pytest.fixture
def shops(make_shop: Make) -> list[Path]:
    return [make_shop(name, seed=k, works=WORKS) for k, name in enumerate(("alpha", "beta", "gamma", "delta"))]


def counts(out: Path) -> np.ndarray:
    return read_release(out / "releases" / "0001").arrays["counts"].astype(np.float64)


def charged(config: FederationConfig) -> float:
    """Standard deviation that a person's charge is made for."""
    privacy = config.privacy
    assert privacy is not None
    return prices(privacy, {LEARNER: {"rounds": 1}}, "alpha")[LEARNER, 1].multiplier * 3.0


@pytest.mark.parametrize(
    ("honest", "there"), [(0.5, ("alpha", "beta", "delta", "gamma")), (1.0, ("alpha", "beta", "gamma"))]
)
def test_a_secure_total_has_the_noise_that_was_charged_for(
    honest: float,
    there: tuple[str, ...],
    shops: list[Path],
    federation: Make,
    grid_of: Make,
    coordinate: Make,
    tmp_path: Path,
) -> None:
    """Every survivor's share of distributed noise is in the total, and nothing else but the sums."""
    config = federation(shops, **SECURE, privacy={**BUDGET, "mechanism": "distributed", "honest": honest})

    def silent(node: int, message: Any) -> bool:
        return node - 100 >= len(there) and message.metadata.message_type == "train.contribute"

    coordinate(config, grid_of(config, silent=silent), tmp_path / "secure")
    opened = federation([shop for shop in shops if shop.name in there], **PRIVATE)
    coordinate(opened, grid_of(opened), tmp_path / "open")

    shares = {0.5: 1, 1.0: 3}[honest]
    wanted = charged(config) * np.sqrt(len(there) / shares)
    added = counts(tmp_path / "secure") - counts(tmp_path / "open")
    assert len(added) == WORKS
    assert added.std() == pytest.approx(wanted, rel=0.1)
    assert abs(added.mean()) < 4 * wanted / np.sqrt(WORKS)
    assert added.std() > 0.95 * charged(config)


def test_a_release_says_what_its_rounds_have_cost(
    shops: list[Path], federation: Make, grid_of: Make, coordinate: Make, tmp_path: Path
) -> None:
    """Two runs of two that the budget is to last, and no partner's own account."""
    config = federation(shops, **SECURE, privacy={**BUDGET, "mechanism": "distributed", "runs": 2})
    for _ in range(2):
        coordinate(config, grid_of(config), tmp_path)
    first, second = (listed.manifest.privacy for listed in Record.open(tmp_path, config).releases.releases())
    assert first is not None
    assert second is not None
    assert (second.epsilon, second.delta, second.mechanism, second.safe) == (2.0, 1e-5, "distributed", False)
    assert 0.99 * 2.0 < second.spent <= 2.0
    assert 1.0 < first.spent < 1.5


def test_a_release_without_a_budget_says_nothing_of_one(
    shops: list[Path], federation: Make, grid_of: Make, coordinate: Make, tmp_path: Path
) -> None:
    config = federation(shops, **PRIVATE)
    coordinate(config, grid_of(config), tmp_path)
    (listed,) = Record.open(tmp_path, config).releases.releases()
    assert listed.manifest.privacy is None
    assert b'"privacy"' not in listed.signed.statement
