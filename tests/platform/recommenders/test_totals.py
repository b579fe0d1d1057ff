import numpy as np

from koinon.recommenders import Contribution, TensorSpec
from koinon.recommenders.federated.totals import add_up

SPECS = (TensorSpec("counts", (3,), "float32", "sum"), TensorSpec("update", (2,), "float32", "mean"))


def contribution(counts, update, users):
    return Contribution({"counts": np.float32(counts), "update": np.float32(update)}, users)


def test_statistics_are_added_and_updates_averaged_by_people():
    total = add_up(SPECS, {"b": contribution([1, 0, 2], [1, 0], 30), "a": contribution([0, 5, 1], [0, 4], 10)})
    np.testing.assert_array_equal(total.arrays["counts"], [1, 5, 3])
    np.testing.assert_allclose(total.arrays["update"], [0.75, 1.0])
    assert total.n_users == 40
    assert total.partners == ("a", "b")


def test_the_order_of_arrival_changes_no_bit():
    rng = np.random.default_rng(0)
    many = {f"p{i}": contribution(rng.lognormal(0, 5, 3), rng.normal(size=2), i + 1) for i in range(9)}
    backwards = dict(reversed(many.items()))
    one, other = add_up(SPECS, many), add_up(SPECS, backwards)
    assert all(np.array_equal(one.arrays[name], other.arrays[name]) for name in one.arrays)


def test_nobody_comes_to_nothing():
    total = add_up(SPECS, {})
    assert not any(array.any() for array in total.arrays.values())
    assert total.n_users == 0
