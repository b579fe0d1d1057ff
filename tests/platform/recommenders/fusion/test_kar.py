"""KAR: knowledge is written once, for a stated subset, and helps where it is right."""

import json
import re

import numpy as np
import pytest

from koinon.errors import RecommenderError
from koinon.evaluation import Chance, evaluate
from koinon.recommenders import Request
from koinon.recommenders.conventional import SemanticEASE
from koinon.recommenders.fusion.kar import KAR, KARConfig, SecondView
from koinon.recommenders.fusion.knowledge import Knowledge, KnowledgeConfig, knowledge_of
from koinon.recommenders.store import load, save
from koinon.space.generating import Writing

TOPICS = 6
SMALL = {"width": 4, "hidden": (8,), "epochs": 2, "batch_rows": 512}
REQUESTS = [Request(history=np.array([1, 7], dtype=np.int32), user=3), Request()]


class Librarian:
    """Says the topic of what it is asked about."""

    name, fingerprint, together = "librarian", "f" * 64, True

    def __init__(self, say="this is about topic{0} and liked by people of topic{0}"):
        self.say, self.asked = say, []

    def write(self, prompts, config):
        self.asked += prompts
        topics = [int(re.findall(r"Title (\d+)", prompt)[-1]) % TOPICS for prompt in prompts]
        return [Writing(self.say.format(topic), "stop", 9) for topic in topics]


def told(**settings):
    return KnowledgeConfig(**{"items": 40, "people": 20, **settings})


def test_the_most_taken_and_the_most_active_are_treated(shop, word_space):
    librarian = Librarian()
    known = knowledge_of(shop.train, word_space, told(), librarian)
    treated = np.flatnonzero(known.items.any(axis=1))
    assert len(treated) == 40
    assert shop.train.item_counts[treated].min() >= np.sort(shop.train.item_counts)[-40]
    assert known.people.any(axis=1).sum() == 20
    assert known.faults == {}
    np.testing.assert_allclose(np.linalg.norm(known.items[treated], axis=1), 1, atol=1e-5)
    assert len(librarian.asked) <= 60
    assert not any(user in prompt for user in shop.train.user_ids for prompt in librarian.asked)


def test_nothing_is_written_twice_and_a_larger_subset_goes_on(shop, word_space, tmp_path):
    first, again = Librarian(), Librarian()
    knowledge_of(shop.train, word_space, told(record=str(tmp_path)), first)
    knowledge_of(shop.train, word_space, told(record=str(tmp_path), items=50), again)
    assert len(again.asked) == 10
    held = json.loads(next(tmp_path.rglob("*.json")).read_text())
    assert (held["model"], held["fingerprint"]) == ("librarian", "f" * 64)


def test_nonsense_counts_as_nothing_known_and_serves_as_the_base_does(shop, word_space):
    config = KARConfig(base="semantic-ease", knowledge=told())
    model = KAR(config, writer=Librarian("so so so so so so so")).fit(
        shop.train, word_space, rng=np.random.default_rng(0)
    )
    assert model.knowledge.faults == {"loops": 60}
    assert not model.knowledge.items.any()
    base = SemanticEASE().fit(shop.train, word_space, rng=np.random.default_rng(0))
    np.testing.assert_allclose(model.score(REQUESTS), base.score(REQUESTS), atol=1e-6)


def test_a_second_view_that_is_right_helps_cold_items(shop, word_space):
    """The shop's texts are made to say nothing; what is known of each item is its topic."""
    from dataclasses import replace

    import polars as pl

    mute = replace(shop.train, items=shop.train.items.with_columns(text=pl.col("title").str.replace(" ", "")))
    vectors = np.stack([word_space.encode([f"topic{int(title.split()[1]) % TOPICS}"])[0]
                        for title in mute.items["title"]])  # fmt: skip
    known = Knowledge(vectors, np.zeros((mute.n_users, word_space.dimension), dtype=np.float32))
    part, found = "cold_among_cold", []
    for share in (0.0, 0.5):
        model = KAR(KARConfig(base="semantic-ease", share=share), knowledge=known)
        model.fit(mute, word_space, rng=np.random.default_rng(0))
        found.append(evaluate(model, mute, shop.test, k=3, slices=(part,)).mean(slice_=part))
    at_random = evaluate(Chance().fit(mute, None, rng=np.random.default_rng(0)), mute, shop.test, k=3, slices=(part,))
    assert found[1] > 2 * at_random.mean(slice_=part) > 0
    assert found[1] > found[0]


@pytest.mark.parametrize("base", ["dcnv2", "semantic-ease"])
def test_it_comes_back_without_any_language_model(shop, word_space, tmp_path, base):
    settings = SMALL if base == "dcnv2" else {}
    config = KARConfig(base=base, base_settings=settings, knowledge=told())
    model = KAR(config, writer=Librarian()).fit(shop.train, word_space, rng=np.random.default_rng(0))
    save(model, tmp_path, shop.train, word_space)
    back = load(tmp_path, shop.train, word_space)
    np.testing.assert_array_equal(back.score(REQUESTS), model.score(REQUESTS))
    assert back.config.knowledge.items == 40


def test_a_second_view_moves_known_texts_alone(word_space):
    texts = ["topic1 subject1", "topic2 subject2"]
    knowledge = np.stack([word_space.encode(["wise"])[0], np.zeros(word_space.dimension, dtype=np.float32)])
    view = SecondView(word_space, texts, knowledge, 0.5)
    found = view.encode([*texts, "a typed text"])
    plain = word_space.encode([*texts, "a typed text"])
    np.testing.assert_allclose(found[1:], plain[1:], atol=1e-6)
    assert found[0] @ knowledge[0] > plain[0] @ knowledge[0] + 0.2
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    others = (SecondView(word_space, texts, knowledge, 0.4), SecondView(word_space, texts, knowledge[::-1], 0.5))
    assert len({view.fingerprint, word_space.fingerprint, *(one.fingerprint for one in others)}) == 4


def test_a_small_decoder_writes_within_the_protocol(shop, word_space, decoder, tmp_path):
    """Random weights write nonsense, and that is what is found of it."""
    config = told(model=f"hf:{decoder}", items=3, people=2, record=str(tmp_path), language="fr")
    known = knowledge_of(shop.train, word_space, config)
    assert sum(known.faults.values()) == 5
    assert len(list(tmp_path.rglob("*.json"))) == 5


def test_an_endpoint_that_is_down_leaves_nothing_known(shop, word_space):
    pytest.importorskip("httpx")
    config = told(endpoint="http://127.0.0.1:9", items=6, people=0, timeout=2.0)
    known = knowledge_of(shop.train, word_space, config)
    assert known.faults == {"failed": 3, "not reached": 3}
    assert not known.items.any()


def test_what_is_missing_is_said(shop, word_space):
    for space, code in ((None, "K404"), (word_space, "K488")):
        with pytest.raises(RecommenderError, match=code):
            KAR().fit(shop.train, space, rng=np.random.default_rng(0))
    with pytest.raises(RecommenderError, match="K400"):
        KAR().score(REQUESTS)
