"""What a second demonstration finds of the first."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from koinon.evaluation import Evaluation
from koinon.server import FederationResult
from koinon.studies.demo.kept import Kept
from koinon.studies.demo.measure import ceiling


def evaluation(value: float) -> Evaluation:
    rows = {"slice": ["all"], "row": [0], "user": [0], "targets": [1], "ndcg@10": [value]}
    return Evaluation(pl.DataFrame(rows), 10, {"coverage@10": 0.5})


def result(out: Path, **left_out: str) -> FederationResult:
    releases = {"federated_gram": out / "releases" / "0001"}
    rounds = ({"event": "round", "round": 1, "left_out": {}},)
    return FederationResult(out, "simulation", releases, rounds, {"north": {"ndcg@10": 0.1}}, left_out, 3.0)


def test_a_finished_federation_is_found_again(tmp_path: Path):
    Kept(tmp_path, {"seed": 7}).keep_federation(result(tmp_path / "out"))
    assert Kept(tmp_path, {"seed": 7}).federation(tmp_path / "out") == result(tmp_path / "out")


def test_nothing_is_found_of_what_was_made_from_something_else(tmp_path: Path):
    Kept(tmp_path, {"seed": 7}).keep_federation(result(tmp_path / "out"))
    assert Kept(tmp_path, {"seed": 8}).federation(tmp_path / "out") is None


def test_a_federation_in_which_a_partner_is_missing_is_run_again(tmp_path: Path):
    kept = Kept(tmp_path, {})
    kept.keep_federation(result(tmp_path / "out", north="K702"))
    assert kept.federation(tmp_path / "out") is None


def test_an_evaluation_comes_back_as_it_was_and_a_damaged_one_not_at_all(tmp_path: Path):
    kept = Kept(tmp_path, {})
    kept.keep_evaluation("pooled-north", evaluation(0.25))
    found = kept.evaluation("pooled-north")
    assert found is not None
    assert (found.mean(), found.k, found.catalogue) == (0.25, 10, {"coverage@10": 0.5})
    (kept.folder / "pooled-north.json").write_text("{")
    assert kept.evaluation("pooled-north") is None


@pytest.mark.parametrize(("validation", "expected"), [(0.9, 0.3), (0.1, 0.2)])
def test_the_ceiling_is_chosen_on_validation_not_on_test(tmp_path: Path, validation: float, expected: float):
    folder = tmp_path / "models" / "local_space"
    folder.mkdir(parents=True)
    (folder / "arm.json").write_text(json.dumps({"validation": [0.4, 0.6]}))
    found = ceiling(tmp_path, {"local_space": evaluation(0.2)}, evaluation(0.3), validation)
    assert found.mean() == expected
