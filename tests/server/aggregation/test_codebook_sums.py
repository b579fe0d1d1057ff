"""Honest catalogues of quite different goods pass the gate, and a bounded sum leaves their codebook as it is."""

from __future__ import annotations

import numpy as np
import pytest

from koinon.errors import FederationError
from koinon.recommenders.federated.codebook import CodebookPlan, codebook_of
from koinon.recommenders.federated.totals import add_up
from koinon.recommenders.protocol import Catalogue, Contribution
from koinon.server.aggregation.cells import Cells
from koinon.server.aggregation.gate import Gate
from koinon.server.aggregation.rules import Robustness, aggregate
from koinon.space.codebook import CodebookConfig, Draft

CONFIG = CodebookConfig(levels=2, codes=8, refine=2)
SIZES = {"books": 400, "films": 60, "tools": 15}


class Places:
    """A space of which the plan needs the dimension alone."""

    dimension = 12
    fingerprint = "places"

    def encode(self, texts):
        raise NotImplementedError


@pytest.fixture(scope="module")
def goods():
    """Each partner's items lie around a direction of their own."""
    rng = np.random.default_rng(2)
    vectors = {}
    for partner, items in SIZES.items():
        drawn = 2.0 * rng.normal(size=12) + rng.normal(size=(items, 12))
        vectors[partner] = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
    return vectors


@pytest.fixture(scope="module")
def catalogues():
    return {
        name: Catalogue(name, tuple(f"{name} {n}" for n in range(size)), None, None) for name, size in SIZES.items()
    }


def test_every_round_passes_and_bounded_sums_are_plain_ones(goods, catalogues, tmp_path):
    plan, gate = CodebookPlan(CONFIG), Gate(tmp_path / "gate.json", "run")
    release = plan.initial([], Places(), rng=np.random.default_rng(0))
    for round_ in range(1, plan.rounds + 1):
        task, cells = plan.task(release, round_), Cells(release, plan.measures, catalogues)
        draft = Draft(codebook_of(release), release.arrays["centroids"], 0)
        given = {
            name: Contribution({"moments": draft.moments(vectors).astype(np.float32)}, n_users=3)
            for name, vectors in goods.items()
        }
        for name, contribution in given.items():
            gate.check(name, plan.name, round_, contribution, task.specs, cells)
        total = aggregate("bounded", task.specs, given, cells, Robustness())
        np.testing.assert_allclose(total.arrays["moments"], add_up(task.specs, given).arrays["moments"])
        release = plan.aggregate(release, total)
    assert codebook_of(release).levels == 2


def test_more_than_a_catalogue_can_come_to_is_refused(catalogues, tmp_path):
    plan = CodebookPlan(CONFIG)
    release = plan.initial([], Places(), rng=np.random.default_rng(0))
    (spec,) = task = plan.task(release, 1).specs
    heavy = Contribution({"moments": np.full(spec.shape, 30.0, dtype=np.float32)}, n_users=3)
    gate = Gate(tmp_path / "gate.json", "run")
    with pytest.raises(FederationError, match="K787"):
        gate.check("tools", plan.name, 1, heavy, task, Cells(release, plan.measures, catalogues))


def test_two_shops_that_list_the_same_goods_both_pass(goods, tmp_path):
    plan, gate = CodebookPlan(CONFIG), Gate(tmp_path / "gate.json", "run")
    twins = {name: Catalogue(name, tuple(f"book {n}" for n in range(400)), None, None) for name in ("north", "south")}
    release = plan.initial([], Places(), rng=np.random.default_rng(0))
    task, cells = plan.task(release, 1), Cells(release, plan.measures, twins)
    draft = Draft(codebook_of(release), release.arrays["centroids"], 0)
    sums = Contribution({"moments": draft.moments(goods["books"]).astype(np.float32)}, n_users=3)
    for name in twins:
        gate.check(name, plan.name, 1, sums, task.specs, cells)
    assert not gate.refused[plan.name]
