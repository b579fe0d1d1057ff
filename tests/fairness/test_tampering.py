"""Whoever changes a byte, a figure, a line or the order of an audit's files is found out by ``verify``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from koinon.fairness.conduct import conduct
from koinon.fairness.drafting import draft, write_plan
from koinon.fairness.plan import PLAN_FILE, AuditPlan
from koinon.fairness.record import LocalRecord
from koinon.fairness.report import REPORT_FILE, RESULTS_FILE
from koinon.fairness.verifying import verify_audit

RECORD = "record.jsonl"


@pytest.fixture(scope="module")
def honest(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small audit that holds."""
    folder = tmp_path_factory.mktemp("honest") / "shop"
    made = draft("shop", [str(shop)], folder, recommender="popularity", attributes=["age"])
    small = {
        "draws": 200,
        "exploratory": ["recall"],
        "providers": [],
        "control": [],
        "groups": made.model_dump()["groups"][:1],
    }
    small["primary"] = [{"metric": "ndcg", "group": "age", "tolerance": 0.1}]
    write_plan(folder, AuditPlan.from_dict({**made.model_dump(mode="json"), **small}))
    conduct(folder, LocalRecord(folder))
    assert not found(folder)
    return folder


@pytest.fixture
def copy(honest: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(honest, tmp_path / "shop"))


def found(folder: Path) -> list[str]:
    """What does not hold."""
    return [check.what for check in verify_audit(folder, LocalRecord(folder)) if check.held is False]


@pytest.mark.parametrize("file", [RESULTS_FILE, PLAN_FILE, RECORD, REPORT_FILE])
def test_a_changed_a_missing_and_an_added_byte_anywhere(copy: Path, file: str) -> None:
    whole = (copy / file).read_bytes()
    rng = np.random.default_rng(len(file))
    places = [
        0,
        1,
        len(whole) // 2,
        len(whole) - 2,
        len(whole) - 1,
        *rng.integers(0, len(whole), 6 if file == REPORT_FILE else 12).tolist(),
    ]
    for number, place in enumerate(places):
        bit = 1 << int(rng.integers(0, 8))
        for changed in (
            whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :],
            whole[:place] + whole[place + 1 :] if number % 2 else whole[:place] + b" " + whole[place:],
        ):
            (copy / file).write_bytes(changed)
            assert found(copy), (file, place, bit)
    (copy / file).write_bytes(whole)
    assert not found(copy)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to every figure, text and ``null``."""
    if isinstance(value, dict):
        return [leaf for key, part in value.items() for leaf in leaves(part, (*path, key))]
    if isinstance(value, list):
        return [leaf for place, part in enumerate(value) for leaf in leaves(part, (*path, place))]
    return [path]


def other(value: Any) -> Any:
    """A value of the same kind that is not the same."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + (1 if isinstance(value, int) else 1e-9 + abs(value) * 1e-9)
    return "x" if value is None else f"{value}x"


def put(document: Any, path: tuple[Any, ...], value: Any) -> None:
    for key in path[:-1]:
        document = document[key]
    document[path[-1]] = value


def test_every_key_of_the_results_though_the_file_reads_well(copy: Path) -> None:
    """One leaf under each distinct key path, the least change that there is, written as the program writes it."""
    whole = (copy / RESULTS_FILE).read_text(encoding="utf-8")
    document = json.loads(whole)
    kinds: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for path in leaves(document):
        kinds.setdefault(tuple("*" if isinstance(key, int) else key for key in path), path)
    assert len(kinds) > 100
    for path in kinds.values():
        changed = json.loads(whole)
        here = changed
        for key in path:
            here = here[key]
        put(changed, path, other(here))
        said = json.dumps(changed, indent=1, ensure_ascii=False) + "\n"
        assert said != whole, path
        (copy / RESULTS_FILE).write_text(said, encoding="utf-8")
        assert found(copy), path


def test_a_line_of_the_record_that_is_gone_moved_or_there_twice(copy: Path) -> None:
    lines = (copy / RECORD).read_text(encoding="utf-8").splitlines(keepends=True)
    assert len(lines) >= 3
    for place in range(len(lines)):
        for changed in (
            lines[:place] + lines[place + 1 :],
            [*lines[:place], lines[place], *lines[place:]],
            [*lines[:place], *lines[place + 1 :], lines[place]] if place < len(lines) - 1 else lines[::-1],
        ):
            (copy / RECORD).write_text("".join(changed), encoding="utf-8")
            assert found(copy), place


def test_another_audits_files_are_not_this_ones(copy: Path, honest: Path, shop: Path, tmp_path: Path) -> None:
    """Somebody puts a kinder audit's results beside this one's plan and record."""
    kinder = tmp_path / "kinder"
    plan = AuditPlan.read(honest / PLAN_FILE)[0].model_dump(mode="json")
    plan["primary"][0]["tolerance"] = 0.9
    write_plan(kinder, AuditPlan.from_dict({**plan, "data": {**plan["data"], "sources": [str(shop)]}}))
    conduct(kinder, LocalRecord(kinder))
    for file in (RESULTS_FILE, REPORT_FILE):
        shutil.copy(kinder / file, copy / file)
    assert {"plan", "results"} <= set(found(copy))
    shutil.copy(kinder / RECORD, copy / RECORD)
    shutil.copy(kinder / "record.key", copy / "record.key")
    assert "plan" in found(copy)
