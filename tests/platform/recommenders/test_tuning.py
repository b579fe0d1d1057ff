"""Tuning: validation alone decides, a trial's value is the fitted model's, every family has the same budget."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from koinon.data import EvaluationSet, Interactions
from koinon.errors import RecommenderError
from koinon.evaluation import evaluate
from koinon.recommenders.conventional import EaseConfig, SemanticEaseConfig
from koinon.recommenders.tuning import (
    LOCAL,
    LOCAL_SPACE,
    Axis,
    BPRFamily,
    EaseFamily,
    IALSFamily,
    PopularityFamily,
    SemanticEaseFamily,
    Validator,
    descend,
    tune,
    tune_local,
)


def rng():
    return np.random.default_rng(3)


@pytest.mark.parametrize("families", [LOCAL, LOCAL_SPACE])
def test_every_trial_has_the_value_that_the_fitted_recommender_gets_on_validation(families, shop, word_space):
    result = tune(families, shop, word_space, rng=rng(), budget=30)
    kinds = {family.name: family for family in families}
    for row in result.trials.sample(6, seed=1).iter_rows(named=True):
        family = kinds[row["family"]]
        config = type(result.best_of[family.name]).model_validate_json(row["config"])
        model = family.build(config).fit(shop.train, word_space, rng=rng())
        found = evaluate(model, shop.train, shop.validation, slices=("all",)).mean()
        assert row["value"] == pytest.approx(found, abs=2e-4)
    assert result.value >= result.trials["value"][0]


def test_trials_from_a_start_with_every_setting_turned_have_the_fitted_models_value(shop, word_space):
    start = EaseConfig(lambda_=20.0, item_power=0.5, output_power=0.25, user_power=0.5, popularity_weight=0.05)
    family = SemanticEaseFamily(start)
    result = tune([family], shop, word_space, rng=rng())
    assert result.trials.height > 12
    for row in result.trials.iter_rows(named=True):
        tried = SemanticEaseConfig.model_validate_json(row["config"])
        model = family.build(tried).fit(shop.train, word_space, rng=rng())
        found = evaluate(model, shop.train, shop.validation, slices=("all",)).mean()
        assert row["value"] == pytest.approx(found, abs=2e-4)


def test_where_there_are_times_item_models_try_what_was_taken_of_late(shop):
    """A week in which others were taken than before, and validation asks for these."""
    late = shop.validation.target_items
    item, time = shop.train.events.item.copy(), np.zeros(len(shop.train.events), dtype=np.int64)
    item[: len(late)], time[: len(late)] = late, 100 * 86_400_000
    timed = replace(shop, train=shop.train.with_events(Interactions(shop.train.events.user, item, time)))
    family = EaseFamily()
    result = tune([family], timed, None, rng=rng())
    tried = [EaseConfig.model_validate_json(config) for config in result.trials["config"]]
    windowed = [place for place, config in enumerate(tried) if config.window_days and config.popularity_weight]
    assert windowed
    for place in windowed[:3]:
        model = family.build(tried[place]).fit(timed.train, None, rng=rng())
        found = evaluate(model, timed.train, timed.validation, slices=("all",)).mean()
        assert result.trials["value"][place] == pytest.approx(found, abs=2e-4)


def test_the_test_set_is_never_read(shop, word_space):
    class Untouchable:
        def __getattribute__(self, name):
            raise AssertionError("tuning looked at the test set")

    blind = replace(shop, test=Untouchable(), cold_item=Untouchable(), events=Untouchable())
    tune(LOCAL, blind, word_space, rng=rng(), budget=5)


def test_no_family_has_more_trials_than_another_may_have(shop, word_space):
    result = tune(LOCAL, shop, word_space, rng=rng(), budget=8)
    trials = dict(result.trials.group_by("family").len().iter_rows())
    assert max(trials.values()) <= 8
    assert trials["ease"] == 8, "two starts share the budget"


def test_the_same_seed_gives_the_same_choice(shop, word_space):
    first, second = (tune_local(shop, word_space, rng=rng(), budget=15) for _ in range(2))
    assert {arm: result.config for arm, result in first.items()} == {
        arm: result.config for arm, result in second.items()
    }
    assert first["local"].trials.drop("seconds").equals(second["local"].trials.drop("seconds"))


def test_the_semantic_arm_starts_from_the_best_plain_ease_and_is_not_below_it(shop, word_space):
    arms = tune_local(shop, word_space, rng=rng())
    ease = arms["local"].trials.filter(family="ease")["value"].max()
    assert arms["local_space"].trials["value"].max() >= ease - 1e-3


def test_a_gain_within_the_noise_does_not_move_a_setting():
    noise = np.random.default_rng(1).normal(0.001, 1.0, size=400)
    measured = {100.0: np.zeros(400), 200.0: noise, 300.0: np.full(400, 0.01)}
    axis = [Axis("lambda_", (200.0,))]
    best, _ = descend("x", EaseConfig(), axis, lambda c: measured[c.lambda_], budget=9, caution=1.0)
    assert best.lambda_ == 100.0
    sure, _ = descend(
        "x",
        EaseConfig(),
        [Axis("lambda_", (3.0,), relative=True)],
        lambda c: measured[c.lambda_],
        budget=9,
        caution=1.0,
    )
    assert sure.lambda_ == 300.0


def test_an_unknown_metric_and_an_empty_validation_are_refused(shop):
    with pytest.raises(RecommenderError, match="K406"):
        tune([PopularityFamily()], shop, None, metric="accuracy", rng=rng())
    nobody: EvaluationSet = replace(shop.validation, main=np.zeros(len(shop.validation), dtype=bool))
    with pytest.raises(RecommenderError, match="K407"):
        Validator(shop.train, nobody, "ndcg@10", rng())
    with pytest.raises(RecommenderError, match="K408"):
        tune([], shop, None, rng=rng())
    with pytest.raises(RecommenderError, match="K404"):
        tune(LOCAL_SPACE, shop, None, rng=rng())


class Counted(IALSFamily):
    """Counts its fits, and may be interrupted."""

    fits = 0

    def build(self, config):
        Counted.fits += 1
        return super().build(config)


def test_an_interrupted_search_goes_on_where_it_was(shop, tmp_path):
    uninterrupted = tune([Counted()], shop, None, rng=rng())

    def interrupt(trial):
        if Counted.fits == 5:
            raise KeyboardInterrupt

    Counted.fits = 0
    with pytest.raises(KeyboardInterrupt):
        tune([Counted()], shop, None, rng=rng(), journal=tmp_path, on_trial=interrupt)
    resumed = tune([Counted()], shop, None, rng=rng(), journal=tmp_path)
    assert Counted.fits == uninterrupted.trials.height, "finished trials are not run again"
    assert resumed.config == uninterrupted.config
    assert resumed.trials.drop("seconds").equals(uninterrupted.trials.drop("seconds"))
    assert resumed.trials["seconds"].min() > 0


def test_a_damaged_trial_is_run_again_and_another_question_is_another_trial(shop, tmp_path):
    family = PopularityFamily()
    tune([family], shop, None, rng=rng(), journal=tmp_path)
    (kept,) = tmp_path.iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(whole[: len(whole) // 2])
    first = tune([family], shop, None, rng=rng(), journal=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    tune([family], shop, None, rng=rng(), metric="recall@20", journal=tmp_path)
    fewer = shop.train.events.take(np.arange(len(shop.train.events)) > 3)
    tune([family], replace(shop, train=shop.train.with_events(fewer)), None, rng=rng(), journal=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    assert tune([family], shop, None, rng=rng(), journal=tmp_path).value == first.value


@pytest.mark.parametrize("family", [IALSFamily(), BPRFamily()])
def test_a_factorisation_is_tuned_to_what_its_fit_gives(family, shop):
    result = tune([family], shop, None, rng=rng(), budget=3)
    model = result.fit(shop.train, None, rng=np.random.default_rng(0))
    assert result.trials.height == 3
    assert result.value == pytest.approx(evaluate(model, shop.train, shop.validation, slices=("all",)).mean(), abs=1e-9)
