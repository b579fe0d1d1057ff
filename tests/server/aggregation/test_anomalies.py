"""Who is flagged, and that honest partners of very different size are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from koinon.recommenders.protocol import Contribution
from koinon.server.aggregation import Anomaly, Robustness, anomalies


def looked_at(shops: Any, name: str, **changed: np.ndarray) -> dict[str, Anomaly]:
    given = dict(getattr(shops, name))
    for partner, sent in changed.items():
        given[partner] = Contribution({name: sent}, given[partner].n_users)
    return {a.partner: a for a in anomalies([shops.spec(name)], given, shops.cells, Robustness())}


def test_honest_partners_are_not_flagged(make_shops: Callable[[int], Any]) -> None:
    for seed in range(3):
        for name in ("counts", "pairs"):
            found = looked_at(make_shops(seed), name)
            assert len(found) == 5
            assert not any(anomaly.codes for anomaly in found.values())


def test_ten_times_as_much_is_flagged(shops: Any) -> None:
    found = looked_at(shops, "counts", gamma=shops.counts["gamma"].arrays["counts"] * 10)
    assert "K793" in found["gamma"].codes
    assert not found["alpha"].codes


def test_another_direction_is_flagged(shops: Any) -> None:
    order = np.argsort(shops.counts["gamma"].arrays["counts"])
    turned = np.zeros(len(order), dtype=np.float32)
    turned[order] = np.sort(shops.counts["gamma"].arrays["counts"])[::-1]
    turned[~shops.cells.held("gamma", shops.spec("counts"))] = 0
    found = looked_at(shops, "counts", gamma=turned)
    assert found["gamma"].codes
    assert found["gamma"].cosine < looked_at(shops, "counts")["gamma"].cosine / 2


def test_one_work_that_carries_everything_is_flagged(shops: Any) -> None:
    spec = shops.spec("pairs")
    sent = shops.pairs["beta"].arrays["pairs"].copy()
    sent[shops.ends(100) & shops.cells.held("beta", spec)] += 60
    found = looked_at(shops, "pairs", beta=sent)
    assert {"K792", "K795"} <= set(found["beta"].codes)
    assert not any(found[name].codes for name in ("alpha", "gamma", "delta", "epsilon"))


def test_who_shares_next_to_nothing_is_not_judged(shops: Any) -> None:
    nothing = np.zeros_like(shops.counts["gamma"].arrays["counts"])
    assert "gamma" not in looked_at(shops, "counts", gamma=nothing)
