"""Click models learn, stop, go on where they were killed, and say what they cannot do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from koinon.errors import RecommenderError
from koinon.evaluation.clicks import auc
from koinon.recommenders.clicks import (
    CLICK_MODELS,
    AlignmentConfig,
    DCNv2,
    DCNv2Config,
    LogisticConfig,
    Rows,
    build_clicks,
    train_clicks,
)
from koinon.recommenders.clicks.keeping import load_clicks, save_clicks
from koinon.recommenders.clicks.models import NETWORKS
from koinon.recommenders.clicks.training import click_config_type, kept_chances

SMALL = {"width": 8, "hidden": (16,), "batch_rows": 128, "epochs": 8, "learning_rate": 0.01}


def small(name: str, **changes):
    return click_config_type(name).model_validate({**(SMALL if name in NETWORKS else {}), **changes})


@pytest.mark.parametrize("name", CLICK_MODELS)
def test_every_model_learns_whom_what_suits_and_gives_chances(clicks, name):
    model = build_clicks(name, small(name)).fit(clicks)
    chances = model.predict(clicks.test)
    assert chances.dtype == np.float32
    assert chances.min() >= 0
    assert chances.max() <= 1
    assert auc(clicks.test.label, chances) > 0.75
    assert abs(model.predict(clicks.train).mean() - clicks.train.label.mean()) < 0.05


@pytest.mark.parametrize("name", CLICK_MODELS)
def test_labels_and_times_of_rows_are_not_read(clicks, name):
    model = build_clicks(name, small(name, **({"epochs": 1} if name in NETWORKS else {}))).fit(clicks)
    rows = clicks.test
    blind = Rows(rows.person, rows.item, 1 - rows.label, rows.time[::-1])
    np.testing.assert_array_equal(model.predict(rows), model.predict(blind))


@pytest.mark.parametrize("name", CLICK_MODELS)
def test_people_of_equal_attributes_whom_training_does_not_know_are_alike(clicks, name):
    model = build_clicks(name, small(name, **({"epochs": 1} if name in NETWORKS else {}))).fit(clicks)
    new = np.flatnonzero(clicks.people.codes["user"][:, 0] == 0)
    one, other, *_ = (place for place in new if clicks.people.sentences[place] == clicks.people.sentences[new[0]])
    items = np.arange(5, dtype=np.int32)
    blank = np.zeros(5, dtype=np.float32)
    chances = [
        model.predict(Rows(np.full(5, place, dtype=np.int32), items, blank, blank.astype(np.int64)))
        for place in (one, other)
    ]
    np.testing.assert_array_equal(*chances)


@pytest.mark.parametrize("name", CLICK_MODELS)
def test_an_unfitted_model_says_so(clicks, name):
    with pytest.raises(RecommenderError) as raised:
        build_clicks(name).predict(clicks.test)
    assert raised.value.code == "K400"


@pytest.mark.parametrize("name", NETWORKS)
def test_a_row_of_somebody_beyond_the_data_is_refused(clicks, name):
    model = NETWORKS[name](small(name, epochs=1)).fit(clicks)
    beyond = np.array([len(clicks.people.ids)], dtype=np.int32)
    with pytest.raises(RecommenderError) as raised:
        model.predict(Rows(beyond, np.zeros(1, np.int32), np.zeros(1, np.float32), np.zeros(1, np.int64)))
    assert raised.value.code == "K409"


def test_the_cross_layers_and_the_pairs_are_what_the_papers_say(clicks):
    fields = torch.randn(5, 4, 8)
    cross = NETWORKS["dcnv2"].network_type(small("dcnv2", crosses=2), clicks.people, clicks.items)
    cross.crosses[0], cross.crosses[1] = torch.nn.Linear(32, 32), torch.nn.Linear(32, 32)
    first = fields.flatten(1)
    once = first * cross.crosses[0](first) + first
    torch.testing.assert_close(cross.own(fields), first * cross.crosses[1](once) + once)
    pairs = NETWORKS["deepfm"].network_type(small("deepfm"), clicks.people, clicks.items)
    wanted = sum((fields[:, i] * fields[:, j] for i in range(4) for j in range(i)), torch.zeros(5, 8))
    torch.testing.assert_close(pairs.own(fields)[:, :8], wanted)


def test_several_values_of_a_field_are_averaged_and_none_is_the_unknown_vector(clicks):
    vectors = NETWORKS["dcnv2"].network_type(small("dcnv2"), clicks.people, clicks.items).vectors
    shown = vectors(torch.tensor([0]), torch.tensor([0]))[0, -1]
    codes = torch.from_numpy(clicks.items.codes["categories"][0]).long()
    first = vectors.table.num_embeddings - clicks.items.sizes["categories"]
    torch.testing.assert_close(shown, vectors.table.weight[first + codes].mean(0))
    vectors.items[0, 1:] = first
    torch.testing.assert_close(vectors(torch.tensor([0]), torch.tensor([0]))[0, -1], vectors.table.weight[first])


def test_training_stops_when_validation_does_not_rise_and_keeps_the_best(clicks):
    model = DCNv2(DCNv2Config(**{**SMALL, "epochs": 40, "learning_rate": 0.05})).fit(clicks)
    fitted = model.stages["clicks"]
    metrics = [epoch.metric for epoch in fitted.curve]
    assert len(metrics) < 40
    assert fitted.best_epoch == int(np.argmax(metrics)) + 1 == len(metrics) - 2
    assert auc(clicks.validation.label, model.predict(clicks.validation)) == pytest.approx(fitted.best)


class Killed(Exception):
    pass


@pytest.mark.parametrize("stage", ["alignment", "clicks"])
def test_a_killed_training_goes_on_to_the_same_weights(clicks, word_space, tmp_path, stage):
    config = DCNv2Config(
        **{**SMALL, "epochs": 2, "dropout": 0.2, "checkpoint_seconds": 0}, alignment=AlignmentConfig(batch_rows=256)
    )
    whole = DCNv2(config).fit(clicks, space=word_space, seed=5)

    def kill(standing):
        if standing.phase == stage and standing.step == 3:
            raise Killed

    with pytest.raises(Killed):
        DCNv2(config).fit(clicks, space=word_space, seed=5, folder=tmp_path, on_progress=kill)
    resumed = DCNv2(config).fit(clicks, space=word_space, seed=5, folder=tmp_path)
    for name, value in whole.network.state_dict().items():
        torch.testing.assert_close(resumed.network.state_dict()[name], value, rtol=0, atol=0)


@pytest.mark.parametrize("change", [{"width": 4}, {"learning_rate": 0.02}, {"unknown": 0.5}])
def test_a_checkpoint_of_another_configuration_is_refused(clicks, tmp_path, change):
    config = small("dcnv2", epochs=1)
    DCNv2(config).fit(clicks, folder=tmp_path)
    with pytest.raises(RecommenderError) as raised:
        DCNv2(config.model_copy(update=change)).fit(clicks, folder=tmp_path)
    assert raised.value.code == "K471"


def test_a_checkpoint_of_another_seed_or_model_is_refused_and_a_damaged_one_too(clicks, tmp_path):
    DCNv2(small("dcnv2", epochs=1)).fit(clicks, folder=tmp_path)
    with pytest.raises(RecommenderError) as raised:
        DCNv2(small("dcnv2", epochs=1)).fit(clicks, folder=tmp_path, seed=1)
    assert raised.value.code == "K471"
    kept = tmp_path / "checkpoint-clicks"
    kept.write_bytes(kept.read_bytes()[:-20])
    with pytest.raises(RecommenderError) as raised:
        DCNv2(small("dcnv2", epochs=1)).fit(clicks, folder=tmp_path)
    assert raised.value.code == "K472"


def test_a_training_that_runs_away_stops_before_the_step(clicks):
    with pytest.raises(RecommenderError) as raised:
        DCNv2(small("dcnv2", learning_rate=1e30, epochs=3)).fit(clicks)
    assert raised.value.code == "K470"


@pytest.mark.parametrize("name", NETWORKS)
def test_a_kept_network_comes_back_as_it_was(clicks, tmp_path, name):
    model = NETWORKS[name](small(name, epochs=1)).fit(clicks)
    save_clicks(model, tmp_path, clicks)
    np.testing.assert_array_equal(load_clicks(tmp_path, clicks).predict(clicks.test), model.predict(clicks.test))


def test_a_kept_network_of_other_data_or_another_shape_is_refused(cinema, clicks, tmp_path):
    from koinon.recommenders.clicks import click_data

    save_clicks(DCNv2(small("dcnv2", epochs=1)).fit(clicks), tmp_path, clicks)
    with pytest.raises(RecommenderError) as raised:
        load_clicks(tmp_path, click_data("cinema", cinema, without=["gender"]))
    assert raised.value.code == "K412"
    description = tmp_path / "clicks.json"
    description.write_text(description.read_text().replace('"width": 8', '"width": 16'))
    with pytest.raises(RecommenderError) as raised:
        load_clicks(tmp_path, clicks)
    assert raised.value.code == "K410"
    description.write_text("{")
    with pytest.raises(RecommenderError) as raised:
        load_clicks(tmp_path, clicks)
    assert raised.value.code == "K410"


def test_a_measured_model_reports_and_keeps_its_test_chances(clicks, tmp_path):
    measured = train_clicks("logistic", LogisticConfig(), clicks, folder=tmp_path)
    assert measured.report["test"]["auc"]["mean"] == pytest.approx(auc(clicks.test.label, measured.chances))
    assert measured.report["test_by_person"]["new"]["rows"] > 0
    np.testing.assert_array_equal(kept_chances(tmp_path, clicks), measured.chances)
    np.save(tmp_path / "test-chances.npy", np.zeros(3))
    with pytest.raises(RecommenderError) as raised:
        kept_chances(tmp_path, clicks)
    assert raised.value.code == "K410"
