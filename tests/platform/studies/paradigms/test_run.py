"""A whole study on a small shop, in real processes."""

from __future__ import annotations

import json
import shutil

import jsonschema
import psutil
import pytest

from koinon.cli.main import run as run_cli
from koinon.errors import EvaluationError
from koinon.studies.paradigms import StudyConfig, StudyResults, run_study

ARMS = ("popularity", "ease", "semantic-ease", "logistic", "prompted")


@pytest.fixture(scope="module")
def study(timed_shop):
    return StudyConfig(data=(str(timed_shop),), arms=ARMS, budget=2, cold_items=0.3)


@pytest.fixture(scope="module")
def ran(study, tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    events = []
    results = run_study(study, out, command="koinon study run paradigms", on_event=events.append)
    return out, results, events


def test_every_arm_has_run_or_is_listed_with_the_reason(ran):
    _, results, _ = ran
    shop = results.data["shop"]
    assert set(shop.arms) == {"popularity", "ease", "semantic-ease", "logistic"}
    assert shop.not_run == {"prompted": "no language model was named (--model)"}


def test_what_an_arm_did_is_told_with_what_it_cost(ran):
    _, results, _ = ran
    shop = results.data["shop"]
    ease, texts = shop.arms["ease"], shop.arms["semantic-ease"]
    assert shop.reference in ("popularity", "ease")
    for arm in (ease, texts):
        assert arm.settings_from == "tuned"
        assert arm.figures["all"]["ndcg@10"].n == shop.test_users
        assert {"stranger_1", "stranger_5", "cold_among_cold", "long_tail"} <= set(arm.figures)
        assert arm.cost.fit_seconds >= 0
        assert arm.cost.peak_mb >= arm.cost.begun_mb > 50
        assert arm.cost.parameters > 0
        assert arm.cost.p50_ms > 0
    assert set(texts.reworded) == {"paraphrased", "translated"}
    assert 0 <= texts.reworded["translated"].overlap.mean <= 1
    assert not ease.reworded
    assert shop.arms["logistic"].clicks.figures["auc"].mean > 0.5
    assert shop.click_reference == "logistic"


def test_texts_tell_cold_items_apart_and_ids_do_not(ran):
    _, results, _ = ran
    shop = results.data["shop"]
    assert shop.arms["popularity"].figures["cold_among_cold"]["ndcg@10"].mean == pytest.approx(shop.chance_among_cold)
    assert shop.arms["semantic-ease"].figures["cold_among_cold"]["ndcg@10"].mean > shop.chance_among_cold


def test_the_same_call_does_nothing_twice(ran, study):
    out, results, _ = ran
    before = {path: path.stat().st_mtime_ns for path in (out / "work").rglob("*")}
    events = []
    again = run_study(study, out, command="koinon study run paradigms", on_event=events.append)
    assert {path: path.stat().st_mtime_ns for path in (out / "work").rglob("*")} == before
    assert {event["event"] for event in events} == {"data", "plan", "kept", "done"}
    assert again.data == results.data


def test_what_is_there_can_be_summed_up_without_doing_what_is_missing(ran, study, tmp_path):
    whole, results, _ = ran
    out = shutil.copytree(whole, tmp_path / "study")
    more = study.model_copy(update={"arms": (*ARMS, "itemknn")})
    events = []
    found = run_study(more, out, report_only=True, on_event=events.append)
    assert {event["event"] for event in events} == {"data", "done"}
    assert found.data["shop"].arms == results.data["shop"].arms
    assert found.data["shop"].not_run["itemknn"].startswith("not reached yet")


def test_several_at_once_find_the_same(ran, study, timed_shop, tmp_path):
    _, results, _ = ran
    events = []
    found = run_study(study.model_copy(update={"workers": 3}), tmp_path, on_event=events.append)
    for name, arm in found.data["shop"].arms.items():
        assert arm.figures == results.data["shop"].arms[name].figures
    over = [event["arm"] for event in events if event["event"] == "over"]
    assert sorted(over) == sorted([*found.data["shop"].arms, "semantic-ease"])  # once more on other words


def test_whoever_is_interrupted_leaves_no_process_and_no_failure_behind(study, timed_shop, tmp_path):
    kept = tmp_path / "settings"
    kept.mkdir()
    (kept / "shop.toml").write_text("[bpr]\nepochs = 1000000\n")
    arms = ("bpr", "popularity", "itemknn", "ease", "ials", "deepfm", "dcnv2", "autoint", "semantic-ease")
    endless = study.model_copy(update={"arms": arms, "settings": kept, "workers": 2, "budget": 0})

    def interrupt(event):
        if event["event"] == "over" and event["arm"] == "semantic-ease":
            raise KeyboardInterrupt

    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(KeyboardInterrupt):
        run_study(endless, tmp_path / "out", on_event=interrupt)
    assert set(psutil.Process().children(recursive=True)) <= before
    assert not list((tmp_path / "out").rglob("failed.json"))


def test_nothing_but_figures_is_left(ran):
    out, _, _ = ran
    assert not list(out.rglob("model"))
    assert not list(out.rglob("checkpoint*"))
    assert not list(out.rglob(".part-*"))


def test_results_follow_the_published_schema_and_read_back(ran):
    out, results, _ = ran
    jsonschema.validate(json.loads((out / "results.json").read_text(encoding="utf-8")), StudyResults.published_schema())
    assert StudyResults.read(out / "results.json").data == results.data
    assert StudyResults.model_validate_json(results.model_dump_json()) == results
    assert StudyResults.published_schema() == json.loads(StudyResults.schema_text())


def test_no_path_and_no_user_stands_in_what_is_given_away(ran, study):
    out, _, _ = ran
    for name in ("results.json", "report.html"):
        text = (out / name).read_text(encoding="utf-8")
        assert str(out) not in text
        assert study.data[0] not in text
        assert "u01" not in text


def test_an_arm_that_fails_is_listed_and_stops_nobody(timed_shop, tmp_path):
    kept = tmp_path / "settings"
    kept.mkdir()
    (kept / "shop.toml").write_text("[ease]\nno_such_setting = 1\n")
    study = StudyConfig(data=(str(timed_shop),), arms=("popularity", "ease"), settings=kept)
    shop = run_study(study, tmp_path / "out").data["shop"]
    assert set(shop.arms) == {"popularity"}
    assert "[K103]" in shop.not_run["ease"]


def test_who_takes_too_long_is_stopped_and_the_rest_goes_on(timed_shop, tmp_path):
    kept = tmp_path / "settings"
    kept.mkdir()
    (kept / "shop.toml").write_text("[bpr]\nepochs = 1000000\n")
    study = StudyConfig(data=(str(timed_shop),), arms=("bpr", "popularity"), settings=kept, seeds=(0,), minutes=0.05)
    shop = run_study(study, tmp_path / "out").data["shop"]
    assert set(shop.arms) == {"popularity"}
    assert "not affordable" in shop.not_run["bpr"]
    events = []
    run_study(study, tmp_path / "out", on_event=events.append)
    assert "begun" not in {event["event"] for event in events}
    assert [event["arm"] for event in events if event["event"] == "failed"] == ["bpr"]


def test_a_study_in_which_nothing_runs_is_an_error(timed_shop, tmp_path):
    study = StudyConfig(data=(str(timed_shop),), arms=("prompted",))
    with pytest.raises(EvaluationError) as caught:
        run_study(study, tmp_path)
    assert caught.value.code == "K543"
    assert "--model" in caught.value.message


def test_the_command_line_runs_it_and_shows_it(ran, study, capsys):
    out, _, _ = ran
    line = ["study", "run", "paradigms", "--data", study.data[0], "--out", str(out), "--arms", ",".join(ARMS)]
    assert run_cli([*line, "--budget", "2", "--cold-items", "0.3", "--json"]) == 0
    lines = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert {one["event"] for one in lines} == {"data", "plan", "kept", "done", "result"}
    assert run_cli(["study", "show", str(out)]) == 0
    assert "popularity" in capsys.readouterr().out


def test_a_study_that_is_not_there_is_an_error(tmp_path, capsys):
    assert run_cli(["study", "show", str(tmp_path)]) == 6
    assert "K541" in capsys.readouterr().err
    (tmp_path / "results.json").write_text("{}")
    assert run_cli(["study", "show", str(tmp_path)]) == 6
    assert "K542" in capsys.readouterr().err
