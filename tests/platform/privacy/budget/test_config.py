"""A budget that would not hold cannot be constructed."""

import math

import pytest

from koinon.data import SplitConfig
from koinon.errors import PrivacyError
from koinon.privacy.budget import Event, PrivacyConfig, multiplier_of, scales
from koinon.recommenders.federated.budgeting import check_policy

SOUND = {"epsilon": 2.0, "delta": 1e-6, "people": 10_000, "partners": 4}
POLICY = {"split": SplitConfig(minimum_item_events=1), "metrics": (), "minimum": 3, "secure": True}
GRAM = {"federated_gram": {}}


def code(call, *args, **settings):
    with pytest.raises(PrivacyError) as caught:
        call(*args, **settings)
    return caught.value.code


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"epsilon": math.inf}, "K660"),
        ({"epsilon": math.nan}, "K660"),
        ({"epsilon": 0.0}, "K660"),
        ({"epsilon": -1.0}, "K660"),
        ({"delta": 0.0}, "K660"),
        ({"delta": 1e-4}, "K660"),  # 1 / people
        ({"sampling": 0.1}, "K664"),
        ({"honest": 0.0}, "K663"),
        ({"honest": 1.1}, "K663"),
    ],
)
def test_an_unsound_budget_is_refused(wrong, expected):
    assert code(PrivacyConfig, **{**SOUND, **wrong}) == expected


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"mechanism": "distributed", "secure": False}, "K663"),
        ({"mechanism": "distributed", "minimum": 2}, "K665"),
        ({"metrics": ("ndcg@10",)}, "K666"),
        ({"split": SplitConfig(minimum_item_events=2)}, "K667"),
        ({"learners": {"federated_gram": {"clip": math.inf}}}, "K661"),
        ({"learners": {"federated_gram": {"counts_clip": math.inf}}}, "K661"),
        ({"learners": {"federated_popularity": {"clip": math.inf}}}, "K661"),
        ({"learners": {"federated_adapters": {}}}, "K669"),
    ],
)
def test_an_unsound_policy_is_refused(wrong, expected):
    privacy = PrivacyConfig(**SOUND, mechanism=wrong.get("mechanism", "local"))
    policy = {**POLICY, **{key: value for key, value in wrong.items() if key in POLICY}}
    assert code(check_policy, privacy, wrong.get("learners", GRAM), **policy) == expected


@pytest.mark.parametrize("mechanism", ["local", "distributed"])
def test_a_sound_policy_is_taken(mechanism):
    learners = {"federated_gram": {}, "federated_popularity": {}, "federated_adapters": {"scales": "released"}}
    check_policy(PrivacyConfig(**SOUND, mechanism=mechanism), learners, **POLICY)


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_a_release_without_noise_or_cost_is_refused(value):
    assert code(Event, "gaussian", value) == "K662"
    assert code(scales, {"counts": 1.0}, {"counts": 1.0}, value) == "K662"
    assert code(scales, {"counts": value}, {"counts": 1.0}, 1.0) == "K661"


def test_a_release_without_a_share_is_refused():
    assert code(multiplier_of, PrivacyConfig(**SOUND), 0.0, 1) == "K662"
    assert code(scales, {"counts": 1.0, "pairs": 1.0}, {"counts": 1.0, "pairs": 0.0}, 1.0) == "K662"


def test_who_may_share_people():
    assert PrivacyConfig(**SOUND).copies("a") == 4
    assert PrivacyConfig(**SOUND, sharing=()).copies("a") == 1
    groups = PrivacyConfig(**SOUND, sharing=(("a", "b"), ("b", "c"), ("x", "y")))
    assert [groups.copies(name) for name in "abcxz"] == [3, 3, 3, 2, 1]


def test_shares_of_the_noise():
    assert PrivacyConfig(**SOUND, honest=0.5).noise_shares(10) == 5
    assert PrivacyConfig(**SOUND, honest=0.1).noise_shares(3) == 1
    assert not PrivacyConfig(**SOUND, unsafe_seed=1).safe
