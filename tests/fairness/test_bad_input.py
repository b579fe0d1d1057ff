"""What an audit is not made of: one table, one clear error each, and never a report with parts left out.

| what is wrong | code | which test |
|---|---|---|
| undeclared attribute; one value; almost all unknown; a group below the minimum; no consent | K512, K522-K525 | here |
| a metric or division that the data do not bear; nobody to be asked about | K530, K535 | here |
| two rows or no id of a person | K531 | here, test_units.py |
| results that are of another release, or of none | K526 | here, test_audit.py |
| a tampered page, results, plan, record | K529, K532, K534 | here, test_tampering.py |
| a plan changed after results; a second plan | K528, K537 | here |
| a plan that is none; an unknown group, metric, recommender | K102, K103 | here, test_plan_and_record.py |
| a missing encoder, no figures of a federation, audits that cannot be compared | K404, K536, K554 | here |
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from koinon.cli.main import run
from koinon.data import PartnerConfig, Tables, Vault
from koinon.data.partner import UserPolicy
from koinon.fairness.plan import PLAN_FILE, AuditPlan
from koinon.fairness.report import REPORT_FILE, RESULTS_FILE
from tests.fairness.conftest import shop_tables

OUTPUTS = (RESULTS_FILE, REPORT_FILE, "totals.json", "report.pdf")


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shop with attributes that divide nobody, and one that is sensitive."""
    tables = shop_tables()
    users = tables.users.with_columns(
        pl.when(pl.int_range(pl.len()) < 6).then(pl.lit("vegan")).alias("diet"),
        pl.when(pl.int_range(pl.len()) < 4).then(pl.lit("left")).otherwise(pl.lit("right")).alias("hand"),
    )
    folder = tmp_path_factory.mktemp("odd") / "shop"
    policy = UserPolicy(sensitive=("taste",), attributes=("taste", "age", "planet", "diet", "hand"))
    english = tables.items.with_columns(language=pl.lit("en"))
    Vault.create(folder, PartnerConfig(name="shop", users=policy), Tables(english, tables.events, users))
    return folder


def plan_of(odd: Path, **changes: Any) -> dict[str, Any]:
    group = changes.pop("group", "age")
    raw = {
        "name": "bad",
        "question": "Is anybody served worse?",
        "system": {"recommender": "popularity"},
        "data": {"sources": [str(odd)]},
        "groups": [{"name": group}],
        "primary": [{"metric": "ndcg", "group": group, "tolerance": 0.1}],
        "draws": 200,
    }
    return raw | changes


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"group": "height"}, "K512", "Declared: taste, age, planet, diet, hand"),
        ({"group": "planet"}, "K522", "planet"),
        ({"group": "diet"}, "K523", "only 6 declare it"),
        ({"group": "hand"}, "K524", "left has fewer than 20"),
        ({"group": "taste"}, "K525", "taste"),
        ({"system": {"kept": "models/mine"}}, "K526", "No recommender is kept"),
        ({"providers": [{"by": "language"}]}, "K530", "all items are of one class (en)"),
        ({"exploratory": ["listed_liked"]}, "K530", "listed_liked"),
        ({"data": {"window": {"first": "2020-01-01", "last": "2020-01-02"}}}, "K530", "time"),
        ({"system": {"recommender": "semantic-ease"}}, "K404", "semantic space"),
        ({"federation": "nowhere"}, "K536", "nowhere"),
        ({"minimum_cell": 200}, "K524", "fewer than 200"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith("K") else "",
)
def test_each_fault_gives_one_error_that_names_it_and_no_report(
    odd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], code: str, said: str
) -> None:
    changes = dict(changes)
    data = {"sources": [str(odd)], **changes.pop("data", {})}
    plan = AuditPlan.from_dict(plan_of(odd, data=data, **changes))
    (tmp_path / PLAN_FILE).write_text(plan.to_toml(), encoding="utf-8")
    status = run(["audit", "run", str(tmp_path)])
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert status == {"K404": 5}.get(code, 6)
    assert len(errors) == 1
    assert f"[{code}]" in errors[0]
    assert said in errors[0]
    assert not [name for name in OUTPUTS if (tmp_path / name).exists()]


@pytest.fixture(scope="module")
def done(odd: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished audit."""
    folder = tmp_path_factory.mktemp("done") / "audit"
    folder.mkdir()
    (folder / PLAN_FILE).write_text(AuditPlan.from_dict(plan_of(odd)).to_toml(), encoding="utf-8")
    assert run(["audit", "run", str(folder)]) == 0
    return folder


def edited(file: str, old: str, new: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        text = (folder / file).read_text(encoding="utf-8")
        assert old in text
        (folder / file).write_text(text.replace(old, new, 1), encoding="utf-8")

    return edit


@pytest.mark.parametrize(
    ("spoil", "command", "code"),
    [
        (edited(REPORT_FILE, "insufficient", "sufficient"), "verify", "K529"),
        (edited(RESULTS_FILE, '"people": ', '"people": 1'), "verify", "K529"),
        (edited(RESULTS_FILE, '"verdict"', '"judgement"'), "verify", "K529"),
        (edited(PLAN_FILE, "tolerance = 0.1", "tolerance = 0.9"), "verify", "K529"),
        (edited("record.jsonl", "audit_plan", "audit_plam"), "verify", "K529"),
        (edited(PLAN_FILE, "tolerance = 0.1", "tolerance = 0.9"), "run", "K528"),
        (edited("record.jsonl", "audit_plan", "audit_plam"), "run", "K532"),
        (edited(PLAN_FILE, 'metric = "ndcg"', 'metric = "luck"'), "run", "K103"),
        (edited(PLAN_FILE, "[data]", "[data"), "run", "K102"),
        (lambda folder: (folder / RESULTS_FILE).write_text("{}"), "report", "K534"),
        (lambda folder: (folder / RESULTS_FILE).unlink(), "report", "K534"),
        (lambda folder: (folder / PLAN_FILE).unlink(), "run", "K101"),
    ],
)
def test_whatever_was_changed_afterwards_is_refused(
    done: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], None],
    command: str,
    code: str,
) -> None:
    folder = shutil.copytree(done, tmp_path / "audit")
    spoil(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    capsys.readouterr()
    assert run(["audit", command, str(folder)]) in (2, 6)
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(errors) == 1
    assert f"[{code}]" in errors[0]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_second_plan_in_one_folder_is_refused(odd: Path, done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--partner", str(odd), "--attribute", "age", "-r", "popularity"]
    assert run(["audit", "plan", str(done), *asked]) == 6
    assert "K537" in capsys.readouterr().err


def test_audits_that_ask_for_other_lists_are_not_compared(odd: Path, done: Path, tmp_path: Path) -> None:
    results = json.loads((done / RESULTS_FILE).read_text(encoding="utf-8"))
    results["plan"]["k"] = 5
    (tmp_path / RESULTS_FILE).write_text(json.dumps(results), encoding="utf-8")
    assert run(["audit", "diff", str(done), str(tmp_path)]) == 6


def test_a_person_with_two_rows_is_refused(odd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two sources that say different things of one person."""
    other = tmp_path / "other"
    tables = shop_tables()
    users = tables.users.with_columns(age=pl.lit("50+"))
    policy = UserPolicy(attributes=("age",))
    Vault.create(other, PartnerConfig(name="other", users=policy), Tables(tables.items, tables.events, users))
    plan = plan_of(odd, data={"sources": [str(odd), str(other)]})
    folder = tmp_path / "audit"
    folder.mkdir()
    (folder / PLAN_FILE).write_text(AuditPlan.from_dict(plan).to_toml(), encoding="utf-8")
    assert run(["audit", "run", str(folder)]) == 6
    assert "K531" in capsys.readouterr().err
    assert not (folder / RESULTS_FILE).exists()
