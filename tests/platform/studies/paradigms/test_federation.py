"""The study's own federation: who may be in it, and what it gives."""

from __future__ import annotations

import numpy as np
import pytest

from koinon.recommenders.conventional import SemanticEASE, SemanticEaseConfig
from koinon.recommenders.federated import GramConfig
from koinon.recommenders.protocol import Request
from koinon.space import open_space
from koinon.studies.paradigms import StudyConfig
from koinon.studies.paradigms.data import open_data, parse_spec
from koinon.studies.paradigms.federation import apart, federate


@pytest.fixture(scope="module")
def domain(timed_shop):
    study = StudyConfig(data=(str(timed_shop),))
    return open_data(parse_spec(study.data[0]), study).known


@pytest.mark.parametrize(
    ("names", "own", "chosen"),
    [
        (["books-de", "books-fr", "office"], "books-fr", ["books-fr", "books-de", "office"]),
        (["books-en", "books-en-us", "books-de"], "books-en-us", ["books-en-us", "books-de"]),
        (["ml-1m-drama", "ml-1m-action"], "ml-1m-drama", ["ml-1m-drama", "ml-1m-action"]),
        (["book-crossing-de", "books-de"], "books-de", ["books-de"]),
        (["ml-100k", "ml-100k"], "ml-100k", ["ml-100k"]),
    ],
)
def test_nobody_federates_with_a_cut_of_their_own_events(names, own, chosen):
    assert apart(names, own) == chosen


def test_alone_it_is_the_partner_s_own_semantic_ease(domain):
    space = open_space()
    found = federate("federated_gram", {"shop": domain}, "shop", GramConfig(lambda_=5.0), space, seed=0)
    alone = SemanticEASE(SemanticEaseConfig(lambda_=5.0)).fit(domain, space, rng=np.random.default_rng(0))
    asked = [Request(history=np.array([3, 7, 11], dtype=np.int32))]
    np.testing.assert_allclose(found.recommender.score(asked), alone.score(asked), rtol=1e-4, atol=1e-5)


def test_a_twin_counts_and_what_is_sent_is_told(domain):
    space = open_space()
    twin = domain.with_events(domain.events.take(domain.events.user % 2 == 0))
    config = GramConfig(lambda_=5.0)
    alone = federate("federated_gram", {"shop": domain}, "shop", config, space, seed=0)
    both = federate("federated_gram", {"shop": domain, "twin": twin}, "shop", config, space, seed=0)
    asked = [Request(history=np.array([3, 7, 11], dtype=np.int32))]
    assert np.abs(both.recommender.score(asked) - alone.recommender.score(asked)).max() > 1e-3
    works = domain.n_items
    pairs = works * (works - 1) / 2
    assert both.rounds == 2
    assert both.bytes_per_round == pytest.approx(4 * (works + pairs) / 2, rel=0.3)
