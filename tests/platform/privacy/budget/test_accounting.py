"""What is charged is what ``dp-accounting`` says of the same events, composed by hand."""

import math

import pytest
from dp_accounting import ComposedDpEvent, GaussianDpEvent, NeighboringRelation, SelfComposedDpEvent, ZCDpEvent
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm

from koinon.errors import PrivacyError
from koinon.privacy.budget import Event, PrivacyConfig, events_of, mass_of, multiplier_of, spent
from koinon.recommenders.federated.budgeting import prices

DELTA = 1e-6
LEARNERS = {"federated_gram": {}, "federated_adapters": {"scales": "released"}, "federated_popularity": {"rounds": 3}}


def test_gaussian_rounds_and_an_audit_cost_what_the_pld_accountant_says_one_by_one():
    accountant = PLDAccountant(NeighboringRelation.ADD_OR_REMOVE_ONE)
    for event in (SelfComposedDpEvent(GaussianDpEvent(20.0), 5), GaussianDpEvent(9.3), GaussianDpEvent(31.0)):
        accountant.compose(event)
    events = [Event("gaussian", 20.0, 5), Event("gaussian", 9.3), Event("gaussian", 31.0)]
    assert spent(events, DELTA) == pytest.approx(accountant.get_epsilon(DELTA), rel=1e-3)


def test_mixed_rounds_cost_what_the_rdp_accountant_says():
    by_hand = ComposedDpEvent([SelfComposedDpEvent(GaussianDpEvent(20.0), 5), ZCDpEvent(0.01), ZCDpEvent(0.02)])
    events = [Event("gaussian", 20.0, 5), Event("zcdp", 0.01), Event("zcdp", 0.02)]
    assert spent(events, DELTA) == pytest.approx(RdpAccountant().compose(by_hand).get_epsilon(DELTA), rel=1e-9)


def test_a_single_gaussian_costs_the_closed_form():
    """Balle and Wang 2018, Theorem 5."""
    z = 4.0
    mu = 1 / z
    exact = brentq(lambda e: norm.cdf(mu / 2 - e / mu) - math.exp(e) * norm.cdf(-mu / 2 - e / mu) - DELTA, 0, 20)
    assert spent([Event("gaussian", z)], DELTA) == pytest.approx(exact, rel=1e-3)


def test_nothing_costs_nothing():
    assert spent([], DELTA) == 0.0


@settings(deadline=None, max_examples=15)
@given(
    epsilon=st.sampled_from([0.5, 2.0, 8.0]),
    shares=st.lists(st.floats(0.05, 1), min_size=1, max_size=6),
    copies=st.integers(1, 5),
    mechanism=st.sampled_from(["local", "distributed"]),
)
def test_all_shares_together_cost_the_budget_and_never_more(epsilon, shares, copies, mechanism):
    privacy = PrivacyConfig(epsilon=epsilon, delta=DELTA, people=1000, partners=copies, mechanism=mechanism)
    parts = [share / sum(shares) for share in shares]
    events = [
        event for part in parts for event in events_of(privacy, multiplier_of(privacy, part, copies), copies)
    ]  # fmt: skip
    assert 0.995 * epsilon < spent(events, DELTA) <= epsilon


@pytest.mark.parametrize("mechanism", ["local", "distributed"])
def test_every_round_of_every_learner_run_and_audit_together_cost_the_budget(mechanism):
    privacy = PrivacyConfig(epsilon=3.0, delta=DELTA, people=1000, partners=4, runs=2, audits=0.25, mechanism=mechanism)
    listed = prices(privacy, LEARNERS, "alpha")
    assert len(listed) == 2 + 6 + 3
    audit = events_of(privacy, multiplier_of(privacy, privacy.audits, 4), 4)
    events = [event for price in listed.values() for event in price.events] * privacy.runs
    assert 0.995 * 3.0 < spent([*events, *audit], DELTA) <= 3.0


@pytest.mark.parametrize("mechanism", ["local", "distributed"])
def test_a_share_that_is_nothing_in_float64_is_refused(mechanism):
    privacy = PrivacyConfig(epsilon=0.5, delta=DELTA, people=1000, partners=4, mechanism=mechanism)
    for share in (0.0, 5e-324):
        with pytest.raises(PrivacyError, match="K662"):
            multiplier_of(privacy, share, 4)


def test_a_budget_that_the_accountant_cannot_show_to_hold_is_refused():
    privacy = PrivacyConfig(epsilon=1e-3, delta=1e-10, people=1000, partners=4, mechanism="distributed")
    with pytest.raises(PrivacyError, match="K660"):
        multiplier_of(privacy, 1.0, 1)


def test_a_person_of_several_partners_costs_more_than_one_of_one():
    shared = PrivacyConfig(epsilon=1.0, delta=DELTA, people=1000, partners=4)
    alone = shared.model_copy(update={"sharing": ()})
    one, other = (multiplier_of(privacy, 1.0, privacy.copies("a")) for privacy in (shared, alone))
    assert one == pytest.approx(2 * other)  # four independent releases
    total = shared.model_copy(update={"mechanism": "distributed"})
    assert multiplier_of(total, 1.0, 4) == pytest.approx(4 / math.sqrt(mass_of(1.0, DELTA, "zcdp")))  # four in one sum
