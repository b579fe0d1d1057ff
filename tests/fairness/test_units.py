"""The unit is a person: one row each, whatever sources know them."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from koinon.errors import EvaluationError
from koinon.fairness.units import unite


def seen(ids, gender, ndcg):
    return pl.DataFrame({"user_id": ids, "gender": gender, "ndcg": ndcg}, schema_overrides={"gender": pl.String})


def test_a_person_at_two_sources_is_one_row_with_the_mean_of_both():
    units = unite(
        {
            "films": seen(["a", "b"], ["f", None], [0.2, 0.4]),
            "books": seen(["b", "c"], ["m", "f"], [0.8, float("nan")]),
        },
        ("gender",),
        {"too few events": 3},
    )
    table = units.table.rows_by_key("user_id", named=True, unique=True)
    assert len(units) == 3
    assert table["b"] == {"stratum": "books + films", "gender": "m", "ndcg": pytest.approx(0.6)}
    assert np.isnan(table["c"]["ndcg"])
    assert len(np.unique(units.stratum)) == 3
    assert units.metrics == ("ndcg",)
    assert units.excluded == {"too few events": 3}


def test_a_value_at_one_source_alone_counts_where_the_other_has_none():
    units = unite({"x": seen(["a"], ["f"], [float("nan")]), "y": seen(["a"], ["f"], [0.5])}, ("gender",))
    assert units.values.tolist() == [[0.5]]


@pytest.mark.parametrize(
    "sources",
    [
        {"x": seen(["a", "a"], ["f", "f"], [0.1, 0.2])},
        {"x": seen([None, "a"], ["f", "f"], [0.1, 0.2])},
        {"x": seen(["a"], ["f"], [0.1]), "y": seen(["a"], ["m"], [0.2])},
    ],
)
def test_a_person_who_is_not_one_is_refused(sources):
    with pytest.raises(EvaluationError, match="K531"):
        unite(sources, ("gender",))
