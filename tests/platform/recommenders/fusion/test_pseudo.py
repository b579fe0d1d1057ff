"""Pseudo-feedback for cold items: it helps where it is right, and it counts nowhere else."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from koinon.data import SplitConfig, Tables, make_split
from koinon.data.marks import PSEUDO
from koinon.errors import RecommenderError
from koinon.evaluation import Chance, evaluate
from koinon.recommenders import Request
from koinon.recommenders.federated.gram import FederatedGram, GramPlan
from koinon.recommenders.federated.identities import catalogue_of
from koinon.recommenders.fusion.audience import Likelihoods, audience, takers_of
from koinon.recommenders.fusion.pseudo import PseudoConfig, PseudoFeedback
from koinon.recommenders.fusion.pseudo_tuning import tune_pseudo
from koinon.recommenders.store import load, save

TOPICS = 6
SETTINGS = {"people": 60, "takers": 8, "least_history": 2, "base_settings": {"lambda_": 5.0}}
REQUESTS = [Request(history=np.array([1, 7], dtype=np.int32)), Request()]


class Knowing:
    """Knows the topic of everything: what shares one fits."""

    asked = 0

    def judge(self, domain, history, items):
        self.asked += 1
        return np.array([(history % TOPICS == item % TOPICS).mean() for item in items], dtype=np.float32)


def fitted(shop, space=None, **settings):
    judge = Knowing()
    config = PseudoConfig(**{**SETTINGS, **settings})
    return PseudoFeedback(config, judge=judge).fit(shop.train, space, rng=np.random.default_rng(0)), judge


@pytest.mark.parametrize("base", ["ease", "ials", "semantic-ease"])
def test_a_judge_that_knows_puts_cold_items_before_the_right_people(shop, word_space, base):
    settings = {} if base == "ials" else {"lambda_": 5.0}
    with_it, _ = fitted(shop, word_space, base=base, base_settings=settings, weight=0.5)
    part = "cold_among_cold"
    chance = Chance().fit(shop.train, None, rng=np.random.default_rng(0))
    found, at_random = (
        evaluate(one, shop.train, shop.test, k=3, slices=(part,)).mean(slice_=part) for one in (with_it, chance)
    )
    assert found > 1.5 * at_random > 0


def test_only_cold_items_get_pseudo_events_and_the_domain_keeps_none(shop):
    before = (len(shop.train.events), shop.train.item_counts.copy())
    model, _ = fitted(shop)
    cold = np.flatnonzero(shop.train.item_counts == 0)
    assert len(cold)
    assert set(model.pseudo.item) == set(cold)
    np.testing.assert_array_equal(np.bincount(model.pseudo.item)[cold], 8)
    assert len(shop.train.events) == before[0]
    np.testing.assert_array_equal(shop.train.item_counts, before[1])
    events = model.pseudo.interactions()
    assert events.marks.kinds == (PSEUDO,)
    assert (events.marks.kind == 0).all()
    assert set(model.pseudo.frame(shop.train)["kind"]) == {PSEUDO}


def test_without_weight_it_is_its_base(shop, word_space):
    from koinon.recommenders.conventional import EASE, EaseConfig

    model, judge = fitted(shop, weight=0.0)
    assert not judge.asked
    assert not len(model.pseudo)
    base = EASE(EaseConfig(lambda_=5.0)).fit(shop.train, None, rng=np.random.default_rng(0))
    np.testing.assert_allclose(model.score(REQUESTS), base.score(REQUESTS), atol=1e-6)
    np.testing.assert_array_less(base.score(REQUESTS) - 1e-5, fitted(shop, weight=0.4)[0].score(REQUESTS) + 1.0)


def test_pseudo_rows_count_in_no_split_and_leave_in_no_sum(shop_tables):
    """Even if somebody writes them among a partner's events."""
    model, _ = fitted(make_split("shop", shop_tables, CONFIG))
    domain = make_split("shop", shop_tables, CONFIG).train
    invented = (
        model.pseudo.frame(domain)
        .select("user_id", "item_id", "kind")
        .with_columns(timestamp=pl.lit(None, dtype=pl.Datetime("ms", "UTC")), weight=pl.lit(1.0, dtype=pl.Float32))
    )
    events = pl.concat([shop_tables.events, invented.select(shop_tables.events.columns)])
    clean = make_split("shop", shop_tables, CONFIG)
    soiled = make_split("shop", Tables(shop_tables.items, events, shop_tables.users), CONFIG)
    for one, other in (
        (clean.train.events, soiled.train.events),
        (clean.events, soiled.events),
    ):
        np.testing.assert_array_equal(one.user, other.user)
        np.testing.assert_array_equal(one.item, other.item)
        assert PSEUDO not in other.marks.kinds
    for part in ("validation", "test"):
        np.testing.assert_array_equal(getattr(clean, part).target_items, getattr(soiled, part).target_items)
        np.testing.assert_array_equal(getattr(clean, part).history_items, getattr(soiled, part).history_items)
    np.testing.assert_array_equal(sums(clean.train), sums(soiled.train))


def test_what_a_partner_sends_is_the_same_whether_it_has_pseudo_events_or_not(shop):
    before = sums(shop.train)
    fitted(shop, weight=1.6)
    np.testing.assert_array_equal(before, sums(shop.train))


CONFIG = SplitConfig(protocol="holdout", cold_items=0.1, minimum_item_events=1)


def sums(domain):
    """What a partner answers in the first round of federated Gram."""
    plan = GramPlan()
    listed = [catalogue_of(name, domain.items) for name in ("shop", "other")]
    release = plan.initial(listed, None, rng=np.random.default_rng(0))
    (counts,) = FederatedGram().contribute(domain, release, plan.task(release, 1)).arrays.values()
    assert counts.sum() > 0
    return counts


def test_takers_are_those_whom_an_item_fits_beside_other_items_and_people():
    fits = np.array([[5.0, 4.0], [1.0, 3.0], [0.0, 0.0]], dtype=np.float32)
    found = takers_of(fits, np.array([3, 5, 9], dtype=np.int32), np.array([10, 20], dtype=np.int32), 1)
    assert sorted(zip(found.item.tolist(), found.user.tolist(), strict=True)) == [(10, 3), (20, 5)]
    shifted = fits + np.array([[0.0], [100.0], [0.0]], dtype=np.float32) + np.array([7.0, 0.0], dtype=np.float32)
    again = takers_of(shifted, np.array([3, 5, 9], dtype=np.int32), np.array([10, 20], dtype=np.int32), 1)
    np.testing.assert_array_equal(found.user, again.user)


def test_a_language_model_judges_once_and_its_judgements_are_kept(shop, model, decoder, tmp_path):
    config = PseudoConfig(model=f"hf:{decoder}", record=str(tmp_path), people=4, takers=2, least_history=2)
    first = audience(shop.train, None, config)
    assert len(list(tmp_path.glob("*.npy"))) == 4
    judge = Likelihoods(shop.train, model, config)
    again = audience(shop.train, None, config, judge)
    assert judge._asking is None  # nobody was asked anew
    np.testing.assert_array_equal(first.user, again.user)
    for path in tmp_path.glob("*.npy"):
        path.write_bytes(b"broken")
    assert len(audience(shop.train, None, config)) == len(first)


def test_nobody_or_nothing_to_judge_is_no_pseudo_event(shop, shop_tables):
    model = PseudoFeedback(PseudoConfig(least_history=999), judge=Knowing())
    assert len(model.fit(shop.train, None, rng=np.random.default_rng(0)).pseudo) == 0
    warm = make_split("shop", shop_tables, CONFIG.model_copy(update={"cold_items": 0.0})).train
    warm = replace(warm, events=make_split("shop", shop_tables, CONFIG).events)
    assert len(audience(warm, None, PseudoConfig(), Knowing())) == 0


def test_it_comes_back_as_it_was_kept(shop, tmp_path):
    model, _ = fitted(shop)
    save(model, tmp_path, shop.train)
    back = load(tmp_path, shop.train)
    np.testing.assert_array_equal(back.score(REQUESTS), model.score(REQUESTS))
    np.testing.assert_array_equal(back.pseudo.user, model.pseudo.user)


def test_the_weight_is_chosen_on_validation_without_asking_again(shop):
    model, judge = fitted(shop)
    asked = judge.asked
    tuned = tune_pseudo(model, shop, None, weights=(0.2, 0.8), cost=0.5)
    assert judge.asked == asked
    assert tuned.value > 0
    assert tuned.cold[tuned.value] >= tuned.cold[0.0]
    assert set(tuned.cold) == {0.0, 0.2, 0.8}
    assert tuned.shelf > 0
    assert tuned.among[tuned.shelf] > tuned.among[0.0]
    refused = tune_pseudo(model, shop, None, weights=(1e6,), cost=0.0)
    assert refused.value == 0.0


def test_what_is_missing_is_said(shop):
    for settings, code in (({}, "K488"), ({"judge": "similarity"}, "K404")):
        with pytest.raises(RecommenderError, match=code):
            PseudoFeedback(PseudoConfig(**settings)).fit(shop.train, None, rng=np.random.default_rng(0))
    with pytest.raises(RecommenderError, match="K400"):
        PseudoFeedback().score(REQUESTS)
    with pytest.raises(ValueError, match="more takers"):
        PseudoConfig(people=3, takers=4)
