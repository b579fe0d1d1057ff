"""The gate between events and texts: its shape, what it lets through, and when it stays shut."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koinon.errors import ConfigError, RecommenderError
from koinon.evaluation import evaluate
from koinon.recommenders import Request
from koinon.recommenders.conventional import EASE, EaseConfig
from koinon.recommenders.fusion.scoring import Evidence, Gate, Gated, GatedConfig, Likelihood, Similarity, tune_gate
from koinon.recommenders.fusion.scoring.gated import standard
from koinon.recommenders.llm_as_rs.prompted import PromptedConfig, PromptedRanker
from koinon.recommenders.store import load, save
from koinon.recommenders.training import reads_texts

RNG = np.random.default_rng
OPEN = Gate(weight=1.0, item_events=2.0)
REQUESTS = [
    Request(np.array([3, 9, 15], dtype=np.int32)),
    Request(),
    Request(np.array([1], dtype=np.int32), query="topic2"),
    Request(liked=("topic4 subject4",)),
]


class Says:
    """Reads nothing, and says a figure for each item."""

    def __init__(self, figures):
        self.figures, self.asked = figures, 0

    def evidence(self, request, row):
        self.asked += 1
        free = np.setdiff1d(np.arange(len(row)), request.history)
        return Evidence(free, self.figures[free])


@pytest.fixture(scope="module")
def base(shop):
    return EASE(EaseConfig(popularity_weight=0.01)).fit(shop.train, None, rng=RNG(0))


@pytest.fixture(scope="module")
def gated(base, shop, word_space):
    return Gated(GatedConfig(gate=OPEN), base=base).adopt(shop.train, word_space)


positive = st.one_of(st.none(), st.floats(0.1, 1000.0))


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 10), positive, positive, st.lists(st.integers(0, 10_000), min_size=2), st.integers(0, 1000))
def test_a_gate_never_rises_with_the_items_or_the_persons_events(weight, item_events, user_events, counts, count):
    gate = Gate(weight=weight, item_events=item_events, user_events=user_events)
    opened = gate.of(np.sort(counts), count)
    assert (np.diff(opened) <= 0).all()
    assert (gate.of(np.sort(counts), count + 1) <= opened).all()
    assert (opened >= 0).all()
    assert (opened <= weight).all()


def test_at_its_half_points_a_gate_is_half_open():
    gate = Gate(weight=2.0, item_events=4.0, user_events=10.0)
    np.testing.assert_allclose(gate.of(np.array([0, 4]), 0), [2.0, 1.0])
    np.testing.assert_allclose(gate.of(np.array([0, 4]), 10), [1.0, 0.5])


def test_scores_are_the_bases_and_the_texts_by_the_gate(gated, base, shop):
    (request,) = REQUESTS[:1]
    own, told = base.score([request])[0], gated.source.all(request)
    free = np.setdiff1d(np.arange(shop.train.n_items), request.history)

    def scaled(values):
        return (values[free] - values[free].mean()) / values[free].std()

    weight = 2.0 / (2.0 + shop.train.item_counts[free])
    expected = scaled(own) + weight * np.clip(scaled(told), -6, 6)
    np.testing.assert_allclose(gated.score([request])[0][free], expected, rtol=1e-4, atol=1e-4)


def test_of_items_without_events_the_one_whose_text_is_near_comes_first(gated, shop):
    cold = np.flatnonzero(shop.cold_item)
    liked = np.array([item for item in range(90) if item % 6 == 2 and item not in cold][:4], dtype=np.int32)
    scores = gated.score([Request(liked)])[0]
    first = cold[np.argsort(-scores[cold])][: (cold % 6 == 2).sum()]
    assert set(first % 6) == {2}


def test_a_wish_in_words_is_heard_where_there_is_no_history(gated, shop):
    scores = gated.score([Request(query="topic4 subject4")])[0]
    cold = np.flatnonzero(shop.cold_item)
    assert cold[np.argmax(scores[cold])] % 6 == 4


def test_who_says_nothing_gets_the_bases_order(gated, base):
    np.testing.assert_array_equal(np.argsort(gated.score([Request()])[0]), np.argsort(base.score([Request()])[0]))


def test_some_candidates_have_the_scores_they_have_among_all(gated):
    some = np.array([7, 2, 60], dtype=np.int32)
    np.testing.assert_array_equal(gated.score(REQUESTS, some), gated.score(REQUESTS)[:, some])


def test_no_text_counts_beyond_the_bound(base, shop):
    figures = np.zeros(90, dtype=np.float32)
    figures[17] = 1e6
    model = Gated(GatedConfig(gate=Gate(weight=1.0), bound=2.0), base=base, source=Says(figures))
    model.adopt(shop.train, None)
    request = Request(np.array([3], dtype=np.int32))
    own = standard(base.score([request])[0], request)
    assert model.score([request])[0][17] - own[17] == pytest.approx(2.0, rel=1e-5)


def test_equal_texts_change_nothing(base, shop):
    model = Gated(GatedConfig(gate=OPEN), base=base, source=Says(np.ones(90, dtype=np.float32))).adopt(shop.train, None)
    request = Request(np.array([3], dtype=np.int32))
    np.testing.assert_array_equal(model.score([request])[0], standard(base.score([request])[0], request))


def test_a_shut_gate_is_the_base_and_reads_no_text(base, shop):
    source = Says(np.arange(90, dtype=np.float32))
    model = Gated(GatedConfig(), base=base, source=source).adopt(shop.train, None)
    np.testing.assert_array_equal(model.score(REQUESTS[:2]), base.score(REQUESTS[:2]))
    assert source.asked == 0


def held_for(shop, cold):
    """The shop's split, asked for cold items alone or for the others alone."""
    chosen = shop.cold_item[shop.validation.target_items] == cold
    row = np.repeat(np.arange(len(shop.validation)), np.diff(shop.validation.target_indptr))[chosen]
    indptr = np.concatenate(([0], np.cumsum(np.bincount(row, minlength=len(shop.validation)))))
    rows = replace(shop.validation, target_items=shop.validation.target_items[chosen], target_indptr=indptr)
    return replace(shop, validation=rows)


def test_validation_opens_the_gate_for_items_that_are_new(gated, shop):
    asked = held_for(shop, True)
    tuned = tune_gate(gated, asked, rng=RNG(0))
    assert tuned.gate.weight > 0
    assert tuned.gain > tuned.caution * tuned.error
    opened = gated.with_gate(tuned.gate)
    shut = gated.with_gate(Gate())
    values = [evaluate(model, shop.train, asked.validation, slices=("all",)).mean() for model in (opened, shut)]
    assert values == pytest.approx([tuned.means[tuned.gate], tuned.means[Gate()]])


def test_validation_keeps_the_gate_shut_where_texts_are_noise(base, shop):
    source = Says(RNG(4).normal(size=90).astype(np.float32))
    model = Gated(GatedConfig(), base=base, source=source).adopt(shop.train, None)
    tuned = tune_gate(model, held_for(shop, False), rng=RNG(0))
    assert tuned.gate == Gate()
    assert tuned.leader.weight > 0
    assert tuned.gain <= tuned.caution * tuned.error
    assert tuned.caution == pytest.approx(2.991, abs=0.05)


def test_texts_are_read_once_for_every_person(base, shop):
    source = Says(RNG(4).normal(size=90).astype(np.float32))
    model = Gated(GatedConfig(), base=base, source=source).adopt(shop.train, None)
    assert tune_gate(model, shop, rng=RNG(0), rows=50).users == 50
    assert source.asked == 50


def test_a_language_model_is_asked_about_the_bases_best_and_near_rare_items(base, shop, word_space):
    asked = []

    class Ranker:
        def parts(self, request, row, candidates):
            asked.append(candidates)
            return PartsLike(np.arange(len(row)), row, row)

    class PartsLike:
        def __init__(self, places, base, told):
            self.places, self.base, self.told = places, base, told

    config = GatedConfig(source="likelihood", candidates=5, rare_candidates=3, rare_events=0)
    similarity = Similarity(word_space.encode(shop.train.texts), word_space, config)
    source = Likelihood(Ranker(), similarity, shop.train.item_counts, config)
    row = base.score(REQUESTS[:1])[0]
    evidence = source.evidence(REQUESTS[0], row)
    best = [one.item for one in base.recommend(REQUESTS[:1], 5)[0]]
    assert asked[0][:5].tolist() == best
    rare = asked[0][5:]
    assert len(rare) == 3
    assert shop.cold_item[rare].all()
    assert evidence.places.tolist() == asked[0].tolist()
    assert source.evidence(Request(), row) is None
    assert len(asked) == 1


@pytest.mark.parametrize("rare", [0, 3])
def test_likelihoods_of_a_language_model_enter_by_the_gate(base, shop, word_space, model, rare):
    config = GatedConfig(
        source="likelihood", gate=OPEN, candidates=4, rare_candidates=rare, rare_events=0,
        language_model={"history": 3, "guarded": False},
    )  # fmt: skip
    gated = Gated(config, base=base, chooser=model).adopt(shop.train, word_space if rare else None)
    request = REQUESTS[0]
    own = standard(base.score([request])[0], request)
    changed = np.flatnonzero(gated.score([request])[0] != own)
    chosen = gated.source.chosen(request, base.score([request])[0])
    assert len(chosen) == 4 + rare
    assert set(changed) <= set(chosen.tolist())
    assert len(changed) >= 3
    ranker = PromptedRanker(
        PromptedConfig(history=3, guarded=False, candidates=7), base=base, chooser=model
    ).adopt(shop.train)  # fmt: skip
    parts = ranker.parts(request, base.score([request])[0][chosen], chosen.astype(np.int32))
    evidence = gated.source.evidence(request, base.score([request])[0])
    np.testing.assert_allclose(evidence.told, parts.told, rtol=1e-4, atol=1e-4)


def test_a_model_that_is_not_named_is_an_error_only_when_it_is_asked(base, shop):
    shut = Gated(GatedConfig(source="likelihood", rare_candidates=0), base=base).adopt(shop.train, None)
    shut.score(REQUESTS[:1])
    with pytest.raises(RecommenderError, match="K480"):
        shut.with_gate(OPEN).score(REQUESTS[:1])


@pytest.mark.parametrize("gate", [Gate(), OPEN])
def test_what_was_kept_comes_back(shop, word_space, gate, tmp_path):
    config = GatedConfig(base="semantic-ease", base_settings={"beta": 0.2}, gate=gate)
    fitted = Gated(config).fit(shop.train, word_space, rng=RNG(0))
    save(fitted, tmp_path, shop.train, word_space)
    back = load(tmp_path, shop.train, word_space)
    assert back.config == config
    np.testing.assert_array_equal(back.score(REQUESTS), fitted.score(REQUESTS))


def test_nothing_is_scored_before_it_is_fitted(base):
    with pytest.raises(RecommenderError, match="K400"):
        Gated(GatedConfig(gate=OPEN), base=base).score(REQUESTS[:1])


def test_texts_are_not_compared_without_a_space(base, shop):
    with pytest.raises(RecommenderError, match="K404"):
        Gated(base=base).adopt(shop.train, None)


@pytest.mark.parametrize(
    ("changes", "reads"),
    [({}, True), ({"source": "likelihood"}, True), ({"source": "likelihood", "rare_candidates": 0}, False)],
)
def test_it_says_whether_it_needs_a_space(changes, reads):
    assert reads_texts("gated", GatedConfig(**changes).model_dump()) is reads


def test_a_base_that_does_not_exist_is_refused():
    with pytest.raises(RecommenderError, match="K488"):
        Gated(GatedConfig(base="nothing"))
    with pytest.raises(ConfigError, match="K103"):
        Gated(GatedConfig(base="ease", base_settings={"lambda_": -1}))
