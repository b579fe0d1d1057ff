"""What federating brought: gains, harms, and whom least."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from koinon.errors import EvaluationError
from koinon.fairness.gains import federation_gains, read_arms


def arms():
    rng = np.random.default_rng(0)
    local = {name: rng.random(400) * 0.3 for name in ("de", "fr", "uk")}
    shift = {"de": 0.05, "fr": -0.04, "uk": 0.02}
    return {name: (values + shift[name] + rng.normal(0, 0.01, 400), values) for name, values in local.items()}


def test_a_harmed_partner_is_named_though_the_mean_gains():
    found = federation_gains(arms(), {"de": "de", "fr": "fr", "uk": "en"})
    by_name = {one.partner: one for one in found.partners}
    assert [by_name[name].harmed for name in ("de", "fr", "uk")] == [False, True, False]
    assert found.minimum == by_name["fr"].gain == pytest.approx(-0.04, abs=0.005)
    assert found.median == by_name["uk"].gain
    assert found.share_harmed == pytest.approx(1 / 3)
    assert (found.worst_language, found.worst_language_gain) == ("fr", by_name["fr"].gain)
    assert by_name["fr"].users_worse > 0.9


def test_a_studys_figures_are_read_user_by_user(tmp_path):
    rows = {"arm": ["local"] * 3 + ["federated"] * 3, "slice": ["all"] * 6, "user": [1, 2, 3, 3, 2, 1],
            "ndcg@10": [0.1, 0.2, 0.3, 0.6, 0.5, 0.4]}  # fmt: skip
    (tmp_path / "per_user").mkdir()
    pl.DataFrame(rows).write_parquet(tmp_path / "per_user" / "shop.parquet")
    (tmp_path / "results.json").write_text(json.dumps({"partners": {"shop": {"language": "de"}}}))
    found, languages = read_arms(tmp_path)
    np.testing.assert_allclose(found["shop"][0] - found["shop"][1], 0.3)
    assert languages == {"shop": "de"}


def test_figures_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(EvaluationError, match="K536"):
        read_arms(tmp_path)
    (tmp_path / "per_user").mkdir()
    rows = {"arm": ["local"], "slice": ["all"], "user": [1], "ndcg@10": [0.1]}
    pl.DataFrame(rows).write_parquet(tmp_path / "per_user" / "shop.parquet")
    with pytest.raises(EvaluationError, match="K536"):
        read_arms(tmp_path)
