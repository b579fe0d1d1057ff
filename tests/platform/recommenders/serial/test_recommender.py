"""NoteLLM's map as a recommender: learned from the events it is fitted on, kept and brought back."""

from __future__ import annotations

import numpy as np
import pytest

from koinon.errors import RecommenderError
from koinon.recommenders import store
from koinon.recommenders.conventional import TextSimilarity, TextSimilarityConfig
from koinon.recommenders.protocol import Request
from koinon.recommenders.serial.notellm import MapConfig, NoteLLM, NoteLLMConfig

from .conftest import COLOURS, THINGS, coloured_shop, domain_of

CONFIG = NoteLLMConfig(
    hidden=16, members=2, map=MapConfig(steps=60, every=20, learning_rate=0.01, batch_pairs=128, dropout=0.2)
)


class Marks:
    """A space in which a text is the mark of its thing, and little of its colour."""

    dimension, fingerprint = len(COLOURS) + len(THINGS), "marks"

    def encode(self, texts):
        rows = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            colour, thing = text.split()
            row[COLOURS.index(colour)], row[len(COLOURS) + THINGS.index(thing)] = 0.4, 1.0
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def fitted(shop):
    return NoteLLM(CONFIG).fit(shop, Marks(), rng=np.random.default_rng(0))


def colours_in_list(model, shop) -> float:
    """Share of the right colour among the nine nearest to one thing of each colour."""
    share = []
    for colour in range(len(COLOURS)):
        own = np.arange(10) + 10 * colour
        scores = model.score([Request(history=own[:1])])[0]
        scores[own[0]] = -np.inf
        share.append(np.isin(np.argsort(-scores)[:9], own).mean())
    return float(np.mean(share))


def test_the_space_learns_what_goes_together_here(fitted, shop):
    plain = TextSimilarity().fit(shop, Marks(), rng=np.random.default_rng(0))
    assert colours_in_list(plain, shop) < 0.8
    assert colours_in_list(fitted, shop) == 1.0
    assert fitted.learned


def test_it_knows_items_that_nobody_took(shop):
    texts, taken = coloured_shop()
    known = domain_of(texts, [[item for item in some if item % 10 != 9] for some in taken])
    model = NoteLLM(CONFIG).fit(known, Marks(), rng=np.random.default_rng(0))
    assert known.item_counts[9] == 0
    assert np.isin(9, np.argsort(-model.score([Request(history=np.array([0, 1]))])[0])[:12])


@pytest.mark.parametrize("base", ["text-similarity", "semantic-ease"])
def test_kept_and_brought_back_it_scores_the_same(base, shop, tmp_path):
    config = CONFIG.model_copy(update={"base": base})
    model = NoteLLM(config).fit(shop, Marks(), rng=np.random.default_rng(1))
    store.save(model, tmp_path / "kept", shop, Marks())
    again = store.load(tmp_path / "kept", shop, Marks())
    asked = [Request(history=np.array([3, 4])), Request(history=np.array([], dtype=np.int64))]
    np.testing.assert_allclose(again.score(asked), model.score(asked), atol=1e-5)


def test_equal_seeds_give_equal_scores_and_others_do_not(fitted, shop):
    asked = [Request(history=np.array([3, 4]))]
    same, other = (NoteLLM(CONFIG).fit(shop, Marks(), rng=np.random.default_rng(seed)) for seed in (0, 1))
    np.testing.assert_array_equal(same.score(asked), fitted.score(asked))
    assert not np.array_equal(other.score(asked), fitted.score(asked))


def test_a_map_that_was_learned_from_the_same_is_taken_whatever_reads_it(fitted, shop, tmp_path, monkeypatch):
    def fit(domain=shop, seed=0, **changes):
        rng = np.random.default_rng(seed)
        return NoteLLM(CONFIG.model_copy(update=changes)).fit(domain, Marks(), rng=rng, maps=tmp_path)

    asked = [Request(history=np.array([4, 17], dtype=np.int32))]
    first = fit()
    assert first.spent == 0.0
    assert len(list(tmp_path.iterdir())) == 1
    again, ease = fit(), fit(base="semantic-ease")
    np.testing.assert_array_equal(first.score(asked), fitted.score(asked))
    np.testing.assert_array_equal(again.score(asked), fitted.score(asked))
    assert again.learned
    assert again.spent > 0.0
    assert ease.spent == again.spent
    assert len(list(tmp_path.iterdir())) == 1
    half = shop.with_events(shop.events.take(shop.events.user % 2 == 0))
    for other in (fit(half), fit(seed=1), fit(hidden=8)):
        assert other.spent == 0.0
    assert len(list(tmp_path.iterdir())) == 4


def test_where_nothing_goes_together_the_axes_stay(shop):
    texts, _ = coloured_shop()
    alone = domain_of(texts, [[number] for number in range(len(texts))])
    model = NoteLLM(CONFIG).fit(alone, Marks(), rng=np.random.default_rng(0))
    assert not model.learned
    assert np.isfinite(model.score([Request(history=np.array([0]))])).all()


def test_it_needs_a_space_and_to_be_fitted(shop):
    with pytest.raises(RecommenderError, match="K404"):
        NoteLLM().fit(shop, None, rng=np.random.default_rng(0))
    with pytest.raises(RecommenderError, match="K400"):
        NoteLLM().score([Request(history=np.array([0]))])
    with pytest.raises(RecommenderError, match="K488"):
        NoteLLM(NoteLLMConfig.model_construct(base="ease", base_settings={}))


def test_a_map_that_is_not_clearly_better_is_not_kept(shop):
    ruinous = CONFIG.model_copy(update={"map": MapConfig(steps=40, every=40, learning_rate=30.0, batch_pairs=128)})
    model = NoteLLM(ruinous).fit(shop, Marks(), rng=np.random.default_rng(0))
    evened = TextSimilarity(TextSimilarityConfig(evenness=0.5)).fit(shop, Marks(), rng=np.random.default_rng(0))
    asked = [Request(history=np.array([3, 4]))]
    assert not model.learned
    np.testing.assert_allclose(model.score(asked), evened.score(asked), atol=1e-5)
