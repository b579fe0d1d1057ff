"""What the gate refuses, under which code, and what it lets pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from koinon.errors import FederationError
from koinon.recommenders.federated.adapters import AdaptersPlan
from koinon.recommenders.federated.gram import GramPlan
from koinon.recommenders.protocol import Contribution, Measure, TensorSpec
from koinon.server.aggregation import Cells, Gate


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate.json", "run")


def refused(gate: Gate, shops: Any, sent: np.ndarray, *, name: str = "counts", people: int = 400, **at: Any) -> str:
    """The code with which beta's tensor is refused; ``""`` where it passes."""
    contribution = Contribution({name: sent}, people)
    partner, round_, cells = at.get("partner", "beta"), at.get("round_", 1), at.get("cells", shops.cells)
    try:
        gate.check(partner, at.get("learner", "federated_gram"), round_, contribution, [shops.spec(name)], cells)
    except FederationError as error:
        return error.code
    return ""


def test_honest_answers_pass(gate: Gate, shops: Any) -> None:
    for round_, name in ((1, "counts"), (2, "pairs")):
        for partner, given in getattr(shops, name).items():
            gate.check(partner, "federated_gram", round_, given, [shops.spec(name)], shops.cells)


@pytest.mark.parametrize(
    ("value", "code"),
    [(np.nan, "K786"), (np.inf, "K786"), (-1.0, "K787"), (401.0, "K787"), (1e30, "K787")],
    ids=["nan", "inf", "negative", "more than its people", "huge"],
)
def test_a_value_that_cannot_be_is_refused(gate: Gate, shops: Any, value: float, code: str) -> None:
    sent = shops.counts["beta"].arrays["counts"].copy()
    sent[50] = value
    assert refused(gate, shops, sent) == code


def test_a_norm_beyond_its_people_is_refused(gate: Gate, shops: Any) -> None:
    """With a clip of 2 per person a shop of 400 may come to a norm of 800, however small each cell is."""
    held = shops.cells.held("beta", shops.spec("counts"))
    sent = np.where(held, 300.0, 0.0).astype(np.float32)
    tight = TensorSpec("counts", sent.shape, "float32", "sum", 2.0)
    with pytest.raises(FederationError, match="K787"):
        gate.check("beta", "federated_gram", 1, Contribution({"counts": sent}, 400), [tight], shops.cells)


def test_works_that_a_partner_does_not_list_are_none_of_its_business(gate: Gate, shops: Any) -> None:
    sent = shops.counts["beta"].arrays["counts"].copy()
    sent[12] = 1.0  # beta lists neither 10 nor 19
    assert refused(gate, shops, sent) == "K789"
    pairs = shops.pairs["alpha"].arrays["pairs"].copy()
    pairs[shops.ends(3)] = 1.0
    assert refused(gate, shops, pairs, name="pairs", partner="alpha", people=900, learner="other") == "K789"


def test_people_may_not_grow_within_a_run(gate: Gate, shops: Any) -> None:
    sent = shops.counts["beta"].arrays["counts"]
    assert refused(gate, shops, sent) == ""
    assert refused(gate, shops, sent, people=4_000, round_=2) == "K788"


def test_people_may_not_exceed_what_was_approved(tmp_path: Path, shops: Any) -> None:
    gate = Gate(tmp_path / "gate.json", "run", largest_partner=399)
    assert refused(gate, shops, shops.counts["beta"].arrays["counts"]) == "K788"


def test_equal_counts_of_one_partner_are_no_replay_but_another_partners_are(gate: Gate, shops: Any) -> None:
    both = np.where(shops.cells.held("alpha", shops.spec("counts")), shops.counts["beta"].arrays["counts"], 0)
    sent = both.astype(np.float32)
    assert refused(gate, shops, sent) == ""
    assert refused(gate, shops, sent, round_=2) == ""
    assert refused(gate, shops, sent, partner="alpha", people=900) == "K791"


def test_what_depends_on_the_release_is_never_sent_twice(gate: Gate, shops: Any) -> None:
    fresh = Cells(shops.release, {"counts": Measure("works", fresh=True)}, shops.catalogues)
    sent = shops.counts["beta"].arrays["counts"]
    assert refused(gate, shops, sent, cells=fresh) == ""
    assert refused(gate, shops, sent, cells=fresh) == "", "the same round asked for again, after a restart"
    assert refused(gate, shops, sent, cells=fresh, round_=2) == "K791"


def test_nothing_shared_is_no_replay(gate: Gate, shops: Any) -> None:
    nothing = np.zeros_like(shops.counts["beta"].arrays["counts"])
    assert refused(gate, shops, nothing) == ""
    assert refused(gate, shops, nothing, partner="alpha", people=900) == ""


def test_whoever_is_refused_stays_out_of_the_learner_and_of_no_other(gate: Gate, shops: Any) -> None:
    sent = shops.counts["beta"].arrays["counts"]
    assert refused(gate, shops, sent * 1e6) == "K787"
    assert refused(gate, shops, sent, round_=2) == "K787"
    assert refused(gate, shops, sent, learner="federated_popularity") == ""


def test_a_restart_forgets_nothing(tmp_path: Path, shops: Any) -> None:
    gate = Gate(tmp_path / "gate.json", "run")
    sent = shops.counts["beta"].arrays["counts"]
    assert refused(gate, shops, sent * 1e6) == "K787"
    assert refused(gate, shops, shops.counts["alpha"].arrays["counts"], partner="alpha", people=900) == ""
    gate.save()
    again = Gate(tmp_path / "gate.json", "run")
    assert refused(again, shops, sent, round_=2) == "K787"
    assert refused(again, shops, sent, partner="alpha", people=901, round_=2) == "K788"
    assert refused(Gate(tmp_path / "gate.json", "another run"), shops, sent) == ""


def test_noise_by_the_policy_is_nobodys_fault(gate: Gate, shops: Any) -> None:
    sent = shops.counts["beta"].arrays["counts"]
    noised = (sent + np.random.default_rng(0).normal(0, 50.0, sent.shape)).astype(np.float32)
    aware = Cells(shops.release, GramPlan.measures, shops.catalogues, {"counts": 50.0})
    assert refused(gate, shops, noised, cells=aware) == ""
    assert refused(gate, shops, noised, learner="other") == "K787"
    assert refused(gate, shops, noised * 1e3, cells=aware, learner="third") == "K787"


def test_every_tensor_of_every_learner_has_a_bound_on_its_norm() -> None:
    """A learner without one could be drowned: the specs' clip or the plan's measure gives it."""
    assert all(measure.norm < np.inf for name, measure in AdaptersPlan.measures.items() if name in ("moment", "spread"))
    assert AdaptersPlan.measures["image"].fresh
