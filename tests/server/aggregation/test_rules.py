"""Laws of the rules: what they leave alone, what they bound, and how much one partner can still move."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koinon.recommenders.federated.totals import add_up
from koinon.recommenders.protocol import Contribution, Measure, TensorSpec
from koinon.server.aggregation import RULES, Cells, Robustness, aggregate

ROBUST = Robustness()


def test_plain_is_the_sum(shops: Any) -> None:
    spec = shops.spec("pairs")
    total = aggregate("plain", [spec], shops.pairs, shops.cells, ROBUST)
    assert np.array_equal(total.arrays["pairs"], add_up([spec], shops.pairs).arrays["pairs"])


@pytest.mark.parametrize("name", ["counts", "pairs"])
def test_bounding_leaves_nearly_all_of_honest_sums(make_shops: Callable[[int], Any], name: str) -> None:
    for seed in range(3):
        shops = make_shops(seed)
        spec = shops.spec(name)
        plain = add_up([spec], getattr(shops, name))
        bounded = aggregate("bounded", [spec], getattr(shops, name), shops.cells, ROBUST)
        assert (bounded.arrays[name] <= plain.arrays[name] + 1e-6).all()
        assert bounded.arrays[name].sum() > 0.995 * plain.arrays[name].sum()
        assert (bounded.n_users, bounded.partners) == (plain.n_users, plain.partners)


def test_without_any_tolerance_bounding_would_change_honest_sums(shops: Any) -> None:
    spec = shops.spec("counts")
    strict = Robustness(tolerance=1.0, deviations=0.0)
    total = aggregate("bounded", [spec], shops.counts, shops.cells, strict)
    assert total.arrays["counts"].sum() < 0.97 * add_up([spec], shops.counts).arrays["counts"].sum()


def _scaled(given: dict[str, Contribution], partner: str, factor: float, name: str) -> dict[str, Contribution]:
    sent = (given[partner].arrays[name] * factor).astype(np.float32)
    return {**given, partner: Contribution({name: sent}, given[partner].n_users)}


@pytest.mark.parametrize("factor", [20.0, 1e3, 1e6])
@pytest.mark.parametrize("name", ["counts", "pairs"])
def test_a_partner_that_multiplies_its_sums_counts_like_an_average_one(shops: Any, name: str, factor: float) -> None:
    spec = shops.spec(name)
    given = getattr(shops, name)
    poisoned = aggregate("bounded", [spec], _scaled(given, "gamma", factor, name), shops.cells, ROBUST)
    honest = aggregate("bounded", [spec], given, shops.cells, ROBUST)
    off = np.linalg.norm(poisoned.arrays[name] - honest.arrays[name]) / np.linalg.norm(honest.arrays[name])
    assert off < 0.1


def test_a_work_pushed_by_one_partner_gains_little(shops: Any) -> None:
    spec = shops.spec("pairs")
    target = int(
        np.argmin(np.where(shops.cells.held("alpha", shops.spec("counts")), shops.release.arrays["counts"], 1e9))
    )
    pushed = shops.ends(target) & shops.cells.held("alpha", spec)
    sent = shops.pairs["alpha"].arrays["pairs"].copy()
    sent[pushed] = 300.0
    given = {**shops.pairs, "alpha": Contribution({"pairs": sent}, 900)}
    plain = add_up([spec], given).arrays["pairs"][pushed].sum()
    bounded = aggregate("bounded", [spec], given, shops.cells, ROBUST).arrays["pairs"]
    assert bounded[pushed].sum() < 0.03 * plain
    honest = add_up([spec], shops.pairs).arrays["pairs"]
    untouched = ~shops.ends(target)
    assert bounded[untouched].sum() == pytest.approx(honest[untouched].sum(), rel=0.01)


@pytest.mark.parametrize("rule", ["median", "trimmed_mean"])
def test_outvoting_bounds_what_one_partner_moves_by_what_the_others_say(shops: Any, rule: str) -> None:
    spec = shops.spec("counts")
    huge = _scaled(shops.counts, "beta", 1e6, "counts")
    total = aggregate(rule, [spec], huge, shops.cells, ROBUST).arrays["counts"]
    rates = np.stack([g.arrays["counts"] / g.n_users for p, g in shops.counts.items() if p != "beta"])
    assert (total <= rates.max(axis=0) * 1780 + 1e-6).all()


@pytest.mark.parametrize("rule", ["median", "trimmed_mean"])
def test_where_fewer_than_three_list_a_cell_it_is_bounded(make_shops: Callable[[int], Any], rule: str) -> None:
    shops = make_shops(1)
    two = {name: shops.counts[name] for name in ("alpha", "beta")}
    spec = shops.spec("counts")
    found = aggregate(rule, [spec], two, shops.cells, ROBUST).arrays["counts"]
    assert np.array_equal(found, aggregate("bounded", [spec], two, shops.cells, ROBUST).arrays["counts"])


def test_a_work_that_a_partner_does_not_list_is_no_vote_for_zero(shops: Any) -> None:
    """Works 0 to 9 are listed by four of five: their median is the four's, not one with a zero."""
    spec = shops.spec("counts")
    total = aggregate("median", [spec], shops.counts, shops.cells, ROBUST).arrays["counts"]
    listers = [name for name in shops.counts if name != "alpha"]
    rates = np.stack([shops.counts[name].arrays["counts"][:10] / shops.counts[name].n_users for name in listers])
    people = sum(shops.counts[name].n_users for name in listers)
    assert total[:10] == pytest.approx(np.median(rates.astype(np.float64), axis=0) * people)


def test_krum_leaves_out_the_one_that_calls_works_by_other_names(make_shops: Callable[[int], Any]) -> None:
    for seed in range(3):
        shops = make_shops(seed)
        sent = np.roll(shops.counts["beta"].arrays["counts"], 41)
        sent[~shops.cells.held("beta", shops.spec("counts"))] = 0
        given = {**shops.counts, "beta": Contribution({"counts": sent}, 400)}
        total = aggregate("krum", [shops.spec("counts")], given, shops.cells, ROBUST)
        assert total.partners == ("alpha", "delta", "epsilon", "gamma")


def test_krum_with_too_few_partners_bounds_instead(shops: Any) -> None:
    spec = shops.spec("counts")
    four = {name: shops.counts[name] for name in ("alpha", "beta", "gamma", "delta")}
    total = aggregate("krum", [spec], four, shops.cells, ROBUST)
    assert total.partners == tuple(sorted(four))
    bounded = aggregate("bounded", [spec], four, shops.cells, ROBUST)
    assert np.array_equal(total.arrays["counts"], bounded.arrays["counts"])


@pytest.mark.parametrize("rule", sorted(RULES))
def test_the_order_of_answers_does_not_matter(shops: Any, rule: str) -> None:
    spec = shops.spec("pairs")
    turned = dict(reversed(shops.pairs.items()))
    one, two = (aggregate(rule, [spec], given, shops.cells, ROBUST) for given in (shops.pairs, turned))
    assert one.arrays["pairs"].tobytes() == two.arrays["pairs"].tobytes()
    assert one.partners == two.partners


@given(
    values=st.lists(st.lists(st.floats(-1, 1, width=32), min_size=6, max_size=6), min_size=3, max_size=6),
    rule=st.sampled_from(["bounded", "median", "trimmed_mean"]),
)
@settings(max_examples=40, deadline=None)
def test_updates_stay_within_what_partners_sent(values: list[list[float]], rule: str) -> None:
    """A tensor that counts nothing (a mean of updates): no coordinate leaves the range of what was sent, and zero."""
    sent = {
        f"p{n}": Contribution({"update": np.array(v, np.float32).reshape(2, 3)}, 10 + n) for n, v in enumerate(values)
    }
    spec = TensorSpec("update", (2, 3), "float32", "mean", 10.0)
    cells = Cells(_nothing(), {"update": Measure()}, {})
    total = aggregate(rule, [spec], sent, cells, ROBUST).arrays["update"]
    stacked = np.stack([given.arrays["update"] for given in sent.values()])
    assert (total <= np.maximum(stacked.max(axis=0), 0) + 1e-6).all()
    assert (total >= np.minimum(stacked.min(axis=0), 0) - 1e-6).all()


def test_one_huge_update_is_scaled_down_to_the_others_norm() -> None:
    sent = {f"p{n}": Contribution({"update": np.full((4,), 1.0, np.float32)}, 10) for n in range(4)}
    sent["p4"] = Contribution({"update": np.full((4,), -1e6, np.float32)}, 10)
    spec = TensorSpec("update", (4,), "float32", "mean", float("inf"))
    total = aggregate("bounded", [spec], sent, Cells(_nothing(), {"update": Measure()}, {}), ROBUST)
    assert total.arrays["update"] == pytest.approx((4 * 1.0 - 25.0) / 5)
    strict = Robustness(norm=1.0)
    total = aggregate("bounded", [spec], sent, Cells(_nothing(), {"update": Measure()}, {}), strict)
    assert total.arrays["update"] == pytest.approx((4 * 1.0 - 1.0) / 5)


def _nothing() -> Any:
    from koinon.recommenders.protocol import Release

    return Release(0, "none", {})
