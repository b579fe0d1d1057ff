"""The sums of an audit: laws that hold whoever the people are."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from koinon.fairness.federated.layout import FIGURES, GAINS, PEOPLE, Layout, gains_of
from koinon.fairness.plan import AuditPlan

RAW: dict[str, Any] = {
    "name": "shops",
    "question": "Is anybody served worse?",
    "system": {"kept": "deployed"},
    "data": {"sources": ["alpha", "beta"]},
    "groups": [
        {"name": "age", "values": ["young", "old"]},
        {"name": "activity", "by": "activity", "bands": [5, 20]},
        {"name": "partner", "by": "partner"},
    ],
    "intersections": [["age", "partner"]],
    "primary": [{"metric": "ndcg", "group": "age", "tolerance": 0.1}],
    "exploratory": ["novelty", "popularity_lift"],
    "federated": {"file": "f.toml", "policy_sha256": "0" * 64, "gains": True},
}
LAYOUT = Layout(AuditPlan.from_dict(RAW))
PERSON = st.tuples(
    st.lists(st.one_of(st.floats(-5, 50), st.just(float("nan"))), min_size=3, max_size=3),
    st.sampled_from(["young", "old", "ageless", None]),
    st.sampled_from(["fewer than 5", "5 to 19", "20 and more"]),
    st.sampled_from(["alpha", "beta"]),
)


def summed(people: list[Any]) -> dict[str, np.ndarray]:
    values = np.array([person[0] for person in people], dtype=np.float64).reshape(-1, 3)
    groups = {
        name: [person[place] for person in people] for place, name in ((1, "age"), (2, "activity"), (3, "partner"))
    }
    return LAYOUT.sums(values, groups)


def test_cells_follow_from_the_plan_alone() -> None:
    sizes = {division.name: division.labels for division in LAYOUT.divisions}
    assert sizes["activity"] == ("fewer than 5", "5 to 19", "20 and more")
    assert sizes["age*partner"] == ("young × alpha", "young × beta", "old × alpha", "old × beta")
    specs = {spec.name: spec for spec in LAYOUT.specs()}
    assert specs[PEOPLE].shape == (3 + 4 + 3 + 5, 3)
    assert specs[FIGURES].shape == (2 * (3 + 4 + 3 + 5), 3)
    assert specs[GAINS].shape == (2, 5)


@settings(max_examples=40, deadline=None)
@given(st.lists(PERSON, min_size=1, max_size=15))
def test_squares_follow_from_people_and_figures(people: list[Any]) -> None:
    values = np.array([person[0] for person in people], dtype=np.float64)
    x = LAYOUT.standard(values)
    known = np.isfinite(values)
    expected = np.array([known.sum(axis=0), np.nansum(x, axis=0), np.nansum(x**2, axis=0)])
    found = LAYOUT.moments(summed(people))[:, : LAYOUT.divisions[0].size].sum(axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.lists(PERSON, max_size=12), PERSON)
def test_one_person_moves_each_sum_by_its_bound_at_most(others: list[Any], person: Any) -> None:
    without, with_ = summed(others), summed([*others, person])
    for spec in LAYOUT.specs()[:2]:
        assert np.linalg.norm(with_[spec.name] - without[spec.name]) <= spec.clip * (1 + 1e-9)


@settings(max_examples=40, deadline=None)
@given(st.lists(PERSON, max_size=15), st.lists(PERSON, max_size=15))
def test_partners_sums_are_those_of_everybody(ours: list[Any], theirs: list[Any]) -> None:
    one, other, both = summed(ours), summed(theirs), summed(ours + theirs)
    for name in (PEOPLE, FIGURES):
        np.testing.assert_allclose(one[name] + other[name], both[name], atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.lists(PERSON, max_size=15))
def test_every_division_counts_everybody_once(people: list[Any]) -> None:
    found = summed(people)
    totals = [
        found[PEOPLE][start : start + division.size].sum(axis=0)
        for start, division in zip(LAYOUT.starts(), LAYOUT.divisions, strict=True)
    ]
    assert all((total == totals[0]).all() for total in totals)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=10), st.floats(0, 1), st.floats(0, 1))
def test_one_person_moves_a_partners_gain_by_its_bound_at_most(
    others: list[tuple[float, float]], deployed: float, local: float
) -> None:
    rows = np.array([*others, (deployed, local)])
    moved = gains_of(rows[:, 0], rows[:, 1]) - gains_of(rows[:-1, 0], rows[:-1, 1])
    assert np.linalg.norm(moved) <= np.sqrt(5) * (1 + 1e-9)
