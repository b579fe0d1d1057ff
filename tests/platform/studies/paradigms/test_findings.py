"""Sentences from figures, by the stated rules."""

from __future__ import annotations

import pytest

from koinon.studies.paradigms.findings import find, verdict
from koinon.studies.paradigms.results import About, ArmResult, Clicks, Cost, DataResult, Reworded
from koinon.studies.report.results import Estimate, Gain


def gain(mean, p=0.001, relative=None, n=50):
    return Gain(relative=relative, relative_lo=None, relative_hi=None, mean=mean, lo=mean, hi=mean, p=p, p_holm=p, n=n)


def estimate(mean):
    return Estimate(mean=mean, lo=mean * 0.9, hi=mean * 1.1, n=50)


def arm(validation, gains, *, cost=1.0, latency=1.0, lists=None, reworded=None, clicks=None, among=None):
    slices = {"all": {"ndcg@10": estimate(0.1)}}
    if among is not None:
        slices["cold_among_cold"] = {"ndcg@10": estimate(among)}
    return ArmResult(
        seeds=[0],
        sampled=False,
        settings_from="stated",
        settings={},
        validation=validation,
        figures=slices,
        gains=gains,
        seed_deviation=None,
        lists=lists or {},
        reworded=reworded or {},
        clicks=clicks,
        cost=Cost(
            fit_seconds=cost, search_seconds=0.0, peak_mb=100.0, begun_mb=90.0, p50_ms=latency, p95_ms=latency,
            parameters=5,
        ),
    )  # fmt: skip


def data(**arms):
    return DataResult(
        source="s", protocol="time", users=9, items=9, events=9, test_users=9, cold_items=2, chance_among_cold=0.2,
        reference="base", click_reference=None, arms=arms, not_run={},
    )  # fmt: skip


ABOUT = {
    "base": About(
        title="base", paradigm="conventional", about="a.", where=None, tuned=None, with_conventional=None
    ),
    "texts": About(
        title="texts", paradigm="serial: embeddings", about="a.", where="feature encoder", tuned=False,
        with_conventional=True,
    ),
    "other": About(
        title="other", paradigm="serial: embeddings", about="a.", where="feature encoder", tuned=False,
        with_conventional=True,
    ),
}  # fmt: skip


def told(sets, question):
    return next(one for one in find(ABOUT, sets) if question in one.question and one.paradigm.startswith("serial"))


@pytest.mark.parametrize(
    ("found", "said"),
    [(gain(0.1, 0.049), "better"), (gain(-0.1, 0.049), "worse"), (gain(0.1, 0.05), "same"), (None, "same")],
)
def test_a_verdict_is_what_the_test_says(found, said):
    assert verdict(found) == said


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        (gain(0.1), gain(0.1, 0.5), "strong"),
        (gain(0.1), gain(-0.1), "level"),
        (gain(-0.1), gain(-0.1, 0.5), "weak"),
        (gain(0.1, 0.5), gain(-0.1, 0.5), "level"),
    ],
)
def test_strong_and_weak_need_half_of_the_sets_and_no_opposite(first, second, kind):
    sets = {name: data(base=arm(0.3, {}), texts=arm(0.2, {"all": one})) for name, one in (("a", first), ("b", second))}
    assert told(sets, "everybody").kind == kind


def test_the_arm_that_speaks_is_best_on_validation_not_on_the_test():
    one = data(base=arm(0.3, {}), texts=arm(0.1, {"all": gain(0.5)}), other=arm(0.2, {"all": gain(-0.5)}))
    assert told({"a": one}, "everybody").kind == "weak"


def test_a_slice_without_people_says_nothing():
    one = data(base=arm(0.3, {}), texts=arm(0.2, {"all": gain(0.1), "long_tail": gain(0.1, n=0)}))
    questions = {found.question for found in find(ABOUT, {"a": one})}
    assert not any("rarely" in question for question in questions)


def test_lists_are_told_apart_by_a_tenth_and_less_miscalibration_is_better():
    base = arm(0.3, {}, lists={"diversity@10": 0.5, "miscalibration@10": 0.5})
    texts = arm(0.2, {}, lists={"diversity@10": 0.54, "miscalibration@10": 0.4})
    sets = {"a": data(base=base, texts=texts)}
    assert told(sets, "diversity").kind == "level"
    assert told(sets, "own mix of kinds").kind == "strong"


@pytest.mark.parametrize(("stays", "kind"), [(0.85, "strong"), (0.6, "level"), (0.4, "weak")])
def test_wording_is_judged_by_the_worst_change(stays, kind):
    changes = {
        name: Reworded(changed=1.0, words=0.5, overlap=estimate(value), ndcg=gain(0.0, 1.0))
        for name, value in (("paraphrased", 0.95), ("translated", stays))
    }
    sets = {"a": data(base=arm(0.3, {}), texts=arm(0.2, {}, reworded=changes))}
    assert told(sets, "other words").kind == kind


@pytest.mark.parametrize(("cost", "kind"), [(0.9, "strong"), (5.0, "level"), (20.0, "weak")])
def test_cost_is_held_against_the_reference(cost, kind):
    sets = {"a": data(base=arm(0.3, {}, cost=1.0), texts=arm(0.2, {}, cost=cost))}
    assert told(sets, "to fit").kind == kind


def test_clicks_are_spoken_for_by_validation_auc():
    def clicks(auc, size):
        return Clicks(figures={}, over_seeds={"auc": 0.5}, validation=auc, gains={"auc": gain(size)})

    one = data(
        base=arm(0.3, {}), texts=arm(None, {}, clicks=clicks(0.8, 0.01)), other=arm(None, {}, clicks=clicks(0.7, -0.01))
    )
    assert told({"a": one}, "clicks").kind == "strong"


def test_conventional_arms_are_held_against_chance_on_cold_items():
    near, far = data(base=arm(0.3, {}, among=0.2)), data(base=arm(0.3, {}, among=0.9))
    for sets, kind in (({"a": near}, "weak"), ({"a": far}, "level")):
        (found,) = [one for one in find(ABOUT, sets) if one.paradigm == "conventional"]
        assert found.kind == kind
