"""From a split to a folder that is an encoder; stopped early, resumed to the last bit."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from koinon.data import SplitConfig, Tables, make_split
from koinon.data.tables import EVENT_SCHEMA
from koinon.errors import RecommenderError, SpaceError
from koinon.recommenders.conventional import SemanticEASE
from koinon.recommenders.serial.notellm import LearnerConfig, MapConfig, PairConfig, TuneConfig, tune_space
from koinon.space import CachedSpace, open_encoder
from koinon.space.lora import LoraSettings
from koinon.space.tuned import CompressionConfig

from .conftest import coloured_shop, domain_of


@pytest.fixture(scope="module")
def split():
    texts, taken = coloured_shop(people=40)
    domain = domain_of(texts, taken)
    events = pl.DataFrame(
        {
            "user_id": [f"u{n:03}" for n, some in enumerate(taken) for _ in some],
            "item_id": [f"i{one:03}" for some in taken for one in some],
            "timestamp": None,
            "kind": "event",
            "weight": 1.0,
        }
    ).cast(dict(EVENT_SCHEMA))
    tables = Tables(domain.items, events, events.select("user_id").unique(maintain_order=True))
    return make_split("shop", tables, SplitConfig(protocol="holdout", cold_items=0.1))


def config_of(folder, **changes):
    return TuneConfig(
        base=f"hf:{folder}",
        compression=CompressionConfig(
            text_tokens=16, dimension=8, hidden=6, members=2, lora=LoraSettings(rank=2, dropout=0.1)
        ),
        learner=LearnerConfig(batch_pairs=16, learning_rate=0.01, temperature=0.05),
        **{"epoch_pairs": 48, "epochs": 3, "recall_at": 5, "checkpoint_seconds": 0.0, **changes},
    )


class Killed(Exception):
    pass


@pytest.mark.parametrize("kind", ["decoder", "bert"])
def test_a_killed_tuning_goes_on_to_the_same_tensors(kind, split, tmp_path, request):
    config = config_of(request.getfixturevalue(kind))
    whole = tune_space(split, config, tmp_path / "whole", seed=2)
    assert whole.report["validation"]["pairs"] > 0
    assert len(whole.report["curve"]) == 3

    def kill(progress):
        if progress.epoch == 2 and progress.step == 2:
            raise Killed

    with pytest.raises(Killed):
        tune_space(split, config, tmp_path / "killed", seed=2, on_progress=kill)
    resumed = tune_space(split, config, tmp_path / "killed", seed=2)
    assert resumed.manifest.sha256 == whole.manifest.sha256
    assert resumed.report["validation"] == whole.report["validation"]


def test_the_result_is_an_encoder_of_the_space_that_recommenders_read(bert, split, tmp_path):
    tuned = tune_space(split, config_of(bert, epochs=1), tmp_path / "out")
    encoder = open_encoder(f"tuned:{tmp_path / 'out'}")
    assert encoder.dimension == 8
    tuned.network.eval()
    texts = split.train.texts
    np.testing.assert_allclose(encoder.encode(texts), tuned.network.encode(texts), atol=1e-5)
    space = CachedSpace(encoder, tmp_path / "vectors")
    model = SemanticEASE().fit(split.train, space, rng=np.random.default_rng(0))
    from koinon.evaluation import evaluate

    assert 0 <= evaluate(model, split.train, split.validation, slices=("all",)).mean() <= 1
    assert space.encoded_texts == len(set(texts))


def test_another_trainings_checkpoint_and_other_things_are_refused(bert, split, tmp_path):
    config = config_of(bert, epochs=1)
    tune_space(split, config, tmp_path / "out", seed=0)
    with pytest.raises(RecommenderError, match="K471"):
        tune_space(split, config, tmp_path / "out", seed=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    with pytest.raises(RecommenderError, match="K465"):
        tune_space(split, config, tmp_path / "mine")
    with pytest.raises(RecommenderError, match="K465"):
        tune_space(split, config, tmp_path / "mine" / "thesis.txt")


def test_without_pairs_there_is_nothing_to_tune(bert, split):
    with pytest.raises(RecommenderError, match="K461"):
        tune_space(split, config_of(bert, pairs=PairConfig(least=99.0)))


def test_test_events_change_nothing(bert, split, tmp_path):
    from dataclasses import replace

    config = config_of(bert, epochs=1)
    other = replace(split.test, target_items=split.test.target_items[::-1].copy())
    one = tune_space(split, config, tmp_path / "one")
    two = tune_space(replace(split, test=other), config, tmp_path / "two")
    assert one.manifest.sha256 == two.manifest.sha256


def test_it_stops_when_recall_grows_no_more(bert, split):
    config = config_of(bert, epochs=9, patience=1).model_copy(
        update={"learner": LearnerConfig(batch_pairs=16, learning_rate=1e-12)}
    )
    tuned = tune_space(split, config)
    assert len(tuned.report["curve"]) == 2
    assert tuned.report["best_epoch"] == 1


def test_what_is_worse_than_the_map_alone_is_not_kept(bert, split, tmp_path):
    ruinous = LearnerConfig(batch_pairs=16, learning_rate=3.0, temperature=0.05)
    map_ = MapConfig(steps=60, every=10, learning_rate=0.02, dropout=0.2)
    config = config_of(bert, epochs=1, map=map_).model_copy(update={"learner": ruinous})
    tuned = tune_space(split, config, tmp_path / "out")
    recall = tuned.report["validation"]["recall@5"]
    assert recall["tuned"] < recall["map"]
    assert tuned.report["best_epoch"] == 0
    assert not any(array.any() for name, array in tuned.network.shared_state().items() if "lora_B" in name)
    alone = tune_space(
        split,
        config_of(bert, epochs=0, map=MapConfig(steps=60, every=10, learning_rate=0.02, dropout=0.2)),
        tmp_path / "alone",
    )
    assert alone.manifest.sha256 == tuned.manifest.sha256
    assert set(alone.report["validation"]["recall@5"]) == {"start", "map"}
    without = tune_space(split, config_of(bert, epochs=1, map=None))
    assert set(without.report["validation"]["recall@5"]) == {"start", "tuned"}


def test_a_tuning_killed_while_the_map_learns_goes_on_to_the_same_tensors(bert, split, tmp_path):
    config = config_of(bert, epochs=1, map=MapConfig(steps=20, every=5))
    whole = tune_space(split, config, tmp_path / "whole", seed=1)

    def kill(progress):
        if progress.phase == "map 2/2" and progress.epoch == 3:
            raise Killed

    with pytest.raises(Killed):
        tune_space(split, config, tmp_path / "killed", seed=1, on_progress=kill)
    assert tune_space(split, config, tmp_path / "killed", seed=1).manifest.sha256 == whole.manifest.sha256


def test_a_map_is_learned_over_an_encoder_whose_layers_cannot_be_reached(split, tmp_path):
    config = TuneConfig(
        base="use-multilingual",
        epochs=0,
        recall_at=5,
        compression=CompressionConfig(dimension=8, hidden=6, members=2),
        map=MapConfig(steps=60, every=10, batch_pairs=64),
    )
    tuned = tune_space(split, config, tmp_path / "out", seed=1)
    recall = tuned.report["validation"]["recall@5"]
    assert recall["map"] > recall["start"]
    assert tuned.report["best_epoch"] == 0
    assert tuned.report["seconds"] == tuned.report["map_seconds"] > 0
    encoder = open_encoder(f"tuned:{tmp_path / 'out'}")
    texts = [*split.train.texts[:5], "ein rotes Buch"]
    np.testing.assert_allclose(encoder.encode(texts), tuned.network.encode(texts), atol=1e-6)
    assert encoder.dimension == 8
    with pytest.raises(SpaceError, match="K319"):
        encoder.tags(texts)
    with pytest.raises(SpaceError, match="K318"):
        tune_space(split, config.model_copy(update={"epochs": 1}), tmp_path / "inside")
