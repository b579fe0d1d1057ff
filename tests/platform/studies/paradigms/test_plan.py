"""Which jobs there are, which cannot run, and what their folders hang on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from koinon.data import SplitConfig, make_split
from koinon.errors import ConfigError
from koinon.recommenders.llm_as_rs.tuned import TunedConfig
from koinon.recommenders.llm_as_rs.tuned.samples import drawn_samples, judged_samples
from koinon.recommenders.store import REGISTRY
from koinon.studies.paradigms import StudyConfig, run_study
from koinon.studies.paradigms.arms import ARMS, PARADIGMS, Told
from koinon.studies.paradigms.plan import PHASES, REWORDED, Plan
from koinon.studies.paradigms.setup import set_up

from .conftest import shop_tables


def planned(out, *data, **settings):
    study = StudyConfig(data=tuple(str(one) for one in data), **settings)
    return Plan(study, [set_up(text, study, out) for text in study.data], out)


def test_every_arm_is_of_a_paradigm_and_every_recommender_exists():
    for arm in ARMS.values():
        assert arm.paradigm in PARADIGMS
        assert arm.recommender is None or arm.recommender in REGISTRY
        assert arm.recommender is not None or arm.clicks is not None
        reads = arm.reads_texts or arm.sampled or "model" in arm.needs
        assert (arm.place is not None) == reads
        assert not reads or arm.paradigm != "conventional"
        assert arm.about.endswith(".")


def test_what_cannot_run_is_said_with_the_reason(timed_shop, untimed_shop, tmp_path):
    plan = planned(tmp_path, timed_shop, untimed_shop)
    timed, untimed = (plan.not_run(setup) for setup in plan.setups)
    assert "order" in untimed["sasrec"]
    assert "times" in untimed["windowed"]
    assert "dislikes" in untimed["logistic"]
    assert "--model" in timed["prompted"]
    assert not {"sasrec", "windowed", "logistic", "ease"} & set(timed)


def test_every_arm_that_can_run_has_its_jobs_and_no_other(timed_shop, tmp_path):
    plan = planned(tmp_path, timed_shop, seeds=(4, 5))
    (setup,) = plan.setups
    jobs = [(arm.name, job.seed) for phase in PHASES if phase != REWORDED for _, arm, job in plan.jobs(phase)]
    assert len(jobs) == len(set(jobs))
    assert {name for name, _ in jobs} == set(ARMS) - set(plan.not_run(setup))
    assert ("ease", 4) in jobs
    assert ("ease", 5) not in jobs
    assert {("ials", 4), ("ials", 5)} <= set(jobs)


def test_arms_that_stand_on_others_come_after_them(timed_shop, tmp_path):
    plan = planned(tmp_path, timed_shop)
    assert {arm.name for _, arm, _ in plan.jobs(1)} == {"semantic-ease-tuned", "gated", "controller"}
    assert "gated" not in {arm.name for _, arm, _ in plan.jobs(0)}


def test_other_words_come_after_everything_on_the_own_ones_and_only_where_texts_are_read(timed_shop, tmp_path):
    plan = planned(tmp_path, timed_shop, seeds=(4, 5))
    reworded = {(arm.name, job.seed, job.folder) for _, arm, job in plan.jobs(REWORDED)}
    before = {(arm.name, job.seed, job.folder) for phase in (0, 1) for _, arm, job in plan.jobs(phase)}
    assert reworded < before
    assert {"semantic-ease", "gated", "unisrec"} <= {name for name, _, _ in reworded}
    assert not {"ease", "ctrl-dcnv2", "federated-gram"} & {name for name, _, _ in reworded}
    _, _, job = next(plan.jobs(REWORDED))
    assert not job.missing()  # nothing to be held against yet
    Path(job.folder).mkdir(parents=True)
    (Path(job.folder) / "accuracy.json").write_text("{}")
    assert job.missing() == ["paraphrased", "translated"]


def test_an_unknown_arm_is_refused(timed_shop, tmp_path):
    with pytest.raises(ConfigError) as caught:
        planned(tmp_path, timed_shop, arms=("no-such",))
    assert caught.value.code == "K125"


def test_an_arm_that_does_not_exist_is_said_before_any_data_are_read(tmp_path):
    told = []
    study = StudyConfig(data=("no-such-set",), arms=("eeze",))
    with pytest.raises(ConfigError) as caught:
        run_study(study, tmp_path / "study", on_event=told.append)
    assert caught.value.code == "K125"
    assert not told
    assert not (tmp_path / "study").exists()


def test_a_folder_hangs_on_settings_and_not_on_other_arms(timed_shop, tmp_path):
    def folder(**settings):
        plan = planned(tmp_path, timed_shop, **settings)
        return plan.job(plan.setups[0], ARMS["ials"], 0).folder

    same = folder()
    assert folder(arms=("ials", "ease")) == same
    assert folder(users=7) == same
    assert folder(budget=3) != same
    assert folder(cold_items=0.1) != same
    kept = tmp_path / "settings"
    kept.mkdir()
    (kept / "shop.toml").write_text("[ials]\nfactors = 8\n")
    assert folder(settings=kept) != same


def test_the_base_of_others_is_best_on_validation(timed_shop, tmp_path):
    plan = planned(tmp_path, timed_shop)
    (setup,) = plan.setups
    assert plan.told(setup).base == "popularity"
    for name, value in {"itemknn": 0.2, "ease": 0.3, "ials": 0.1}.items():
        folder = Path(plan.job(setup, ARMS[name], 0).folder)
        folder.mkdir(parents=True)
        (folder / "fit.json").write_text(json.dumps({"validation": value, "config": {}}))
    told = plan.told(setup)
    assert told.base == "ease"
    assert set(told.settled) == {"itemknn", "ease", "ials"}


def test_a_data_set_is_looked_at_once(timed_shop, tmp_path):
    planned(tmp_path, timed_shop)
    path = tmp_path / "data" / "shop.json"
    before = path.stat().st_mtime_ns
    planned(tmp_path, timed_shop)
    assert path.stat().st_mtime_ns == before
    planned(tmp_path, timed_shop, cold_items=0.3)
    assert path.stat().st_mtime_ns != before


@pytest.mark.parametrize("weight", [1.0, 5.0])
def test_what_a_language_model_is_tuned_on_is_there_whether_or_not_weights_tell_dislikes(weight, tmp_path):
    study = StudyConfig(data=("shop",), model="gguf:model.gguf")
    told = Told(study, "en", weight > 1, "ease", {}, {}, tmp_path)
    complete = ARMS["tallrec"].complete
    assert complete is not None
    settings = complete(told)
    domain = make_split("shop", shop_tables(), SplitConfig(protocol="holdout")).train
    marks = domain.events.marks
    weights = marks.weight if weight > 1 else np.ones_like(marks.weight)
    domain = domain.with_events(replace(domain.events, marks=replace(marks, weight=weights)))
    config = TunedConfig.model_validate(settings)
    draw = judged_samples if config.dislikes == "rated" else drawn_samples
    found = draw(domain, liked_from=config.liked_from, history=5, rng=np.random.default_rng(0))
    assert 0.2 < found.label.mean() < 0.8
