"""The study's own federation: who may be in it, and what it gives."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from koinon.recommenders.conventional import SemanticEASE, SemanticEaseConfig
from koinon.recommenders.protocol import Request
from koinon.space import open_space
from koinon.studies.paradigms import StudyConfig, run_study
from koinon.studies.paradigms.data import open_data, parse_spec
from koinon.studies.paradigms.federation import Rounds, apart, join, run_rounds

ASKED = [Request(history=np.array([3, 7, 11], dtype=np.int32))]


@pytest.fixture(scope="module")
def domain(timed_shop):
    study = StudyConfig(data=(str(timed_shop),))
    return open_data(parse_spec(study.data[0]), study).known


@pytest.fixture(scope="module")
def twin(domain):
    return domain.with_events(domain.events.take(domain.events.user % 2 == 0))


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


def recommender(name, domains, own, settings, tmp_path, *, agreed=None, space=None):
    space = space or open_space()
    rounds = run_rounds(name, domains, agreed or {}, space, seed=0, file=tmp_path / f"{len(domains)}.safetensors")
    joined = join(name, rounds, own, domains[own], settings, space)
    return rounds, joined.fit(domains[own], space, rng=np.random.default_rng(0))


def test_alone_it_is_the_partner_s_own_semantic_ease(domain, tmp_path):
    _, found = recommender("federated_gram", {"shop": domain}, "shop", {"lambda_": 5.0}, tmp_path)
    alone = SemanticEASE(SemanticEaseConfig(lambda_=5.0)).fit(domain, open_space(), rng=np.random.default_rng(0))
    np.testing.assert_allclose(found.score(ASKED), alone.score(ASKED), rtol=1e-4, atol=1e-5)


def test_a_twin_counts_and_what_is_sent_is_told(domain, twin, tmp_path):
    _, alone = recommender("federated_gram", {"shop": domain}, "shop", {"lambda_": 5.0}, tmp_path)
    both, found = recommender("federated_gram", {"shop": domain, "twin": twin}, "shop", {"lambda_": 5.0}, tmp_path)
    assert np.abs(found.score(ASKED) - alone.score(ASKED)).max() > 1e-3
    works = domain.n_items
    pairs = works * (works - 1) / 2
    assert both.number == 2
    assert both.bytes_per_round == pytest.approx(4 * (works + pairs) / 2, rel=0.3)
    assert both.seconds > 0


@pytest.mark.parametrize("name", ["federated_popularity", "federated_gram", "federated_adapters", "federated_hstu"])
def test_rounds_that_are_kept_are_not_run_again_and_others_go_on(name, domain, twin, tmp_path, monkeypatch):
    domains = {"shop": domain, "twin": twin}
    agreed = {"rounds": 3, "width": 8, "length": 8, "epochs": 0} if name == "federated_hstu" else {}
    whole, first = recommender(name, domains, "twin", agreed, tmp_path / "whole", agreed=agreed)

    file = tmp_path / "2.safetensors"
    written = []

    def interrupted(rounds, path):
        if written:
            raise KeyboardInterrupt
        written.append(path)
        write(rounds, path)

    write = Rounds.write
    monkeypatch.setattr(Rounds, "write", interrupted)
    if whole.number > 1:
        with pytest.raises(KeyboardInterrupt):
            run_rounds(name, domains, agreed, open_space(), seed=0, file=file)
        assert Rounds.read(file).number == 1
    monkeypatch.setattr(Rounds, "write", write)
    again, second = recommender(name, domains, "twin", agreed, tmp_path, agreed=agreed)
    assert again.number == whole.number
    np.testing.assert_array_equal(second.score(ASKED), first.score(ASKED))

    monkeypatch.setattr(Rounds, "write", None)  # whoever ran a round would write it
    _, third = recommender(name, domains, "twin", agreed, tmp_path, agreed=agreed)
    np.testing.assert_array_equal(third.score(ASKED), first.score(ASKED))


def test_the_study_runs_one_federation_for_all_its_data_sets(timed_shop, tmp_path):
    other = shutil.copytree(timed_shop, tmp_path / "other")
    arms = ("ease", "semantic-ease", "federated-popularity", "federated-codebook", "federated-hstu")
    study = StudyConfig(data=(str(timed_shop), str(other)), arms=arms, seeds=(0,), budget=0, workers=2)
    results = run_study(study, tmp_path / "out")
    for one in results.data.values():
        assert not one.not_run
        found = one.arms["federated-hstu"]
        assert found.cost.bytes_per_round > 1000
        assert set(found.settings) >= {"blend", "own"} or found.settings.get("blend", 0) == 0
    assert len(list((tmp_path / "out" / "federations").iterdir())) == 3
    seconds = {one.arms["federated-hstu"].cost.fit_seconds for one in results.data.values()}
    assert min(seconds) > 0.8 * max(seconds)
