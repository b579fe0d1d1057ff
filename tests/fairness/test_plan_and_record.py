"""The plan is fixed first, and the record shows it."""

from __future__ import annotations

import pytest

from koinon.errors import ConfigError, EvaluationError
from koinon.fairness.plan import AuditPlan
from koinon.fairness.record import LocalRecord, enter_plan, enter_report, plan_entry
from koinon.privacy.ledger.kinds import Kind

PLAN = {
    "name": "shop",
    "question": "Is anybody served worse?",
    "system": {"recommender": "ease"},
    "data": {"sources": ["dataset:ml-100k"]},
    "groups": [{"name": "gender"}, {"name": "age"}],
    "primary": [{"metric": "ndcg", "group": "gender", "tolerance": 0.05}],
}
ONE, TWO, REPORT = "1" * 64, "2" * 64, "f" * 64


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"primary": [{"metric": "ndcg", "group": "height", "tolerance": 0.05}]}, "height"),
        ({"primary": [{"metric": "beauty", "group": "age", "tolerance": 0.05}]}, "beauty"),
        ({"primary": [{"metric": "ndcg", "group": "age", "tolerance": 0.0}]}, "tolerance"),
        ({"primary": [{"metric": "ndcg", "group": "gender*age", "tolerance": 0.1}]}, r"gender\*age"),
        ({"primary": PLAN["primary"] * 2}, "twice"),
        ({"groups": [{"name": "gender"}, {"name": "gender"}]}, "one name"),
        ({"groups": [{"name": "gender"}, {"name": "use", "by": "activity"}]}, "bands"),
        ({"intersections": [["gender", "gender"]]}, "two different"),
        ({"control": ["wealth"]}, "wealth"),
        ({"exploratory": ["luck"]}, "luck"),
        ({"system": {"recommender": "ease", "kept": "models/local"}}, "either"),
        ({"system": {"recommender": "oracle"}}, "oracle"),
        ({"minimum_cell": 1}, "minimum_cell"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_refused_with_the_key_at_fault(change, said):
    with pytest.raises(ConfigError, match=rf"K103.*{said}"):
        AuditPlan.from_dict(PLAN | change)


def test_the_hash_is_that_of_the_files_bytes(tmp_path):
    import tomli_w

    path = tmp_path / "plan.toml"
    path.write_text(tomli_w.dumps(PLAN))
    plan, first = AuditPlan.read(path)
    path.write_text("# a word\n" + tomli_w.dumps(PLAN))
    again, second = AuditPlan.read(path)
    assert plan == again
    assert first != second


def test_a_plan_is_entered_once_and_before_its_report(tmp_path):
    record = LocalRecord(tmp_path)
    first = enter_plan(record, "shop", ONE)
    assert enter_plan(record, "shop", ONE) == first
    enter_report(record, "shop", ONE, REPORT)
    entries = record.entries()
    assert [entry.kind for entry in entries] == [Kind.AUDIT_RECORD, Kind.AUDIT_PLAN, Kind.AUDIT]
    assert plan_entry(entries, "shop", ONE) == first
    assert (tmp_path / "record.key").stat().st_mode & 0o077 == 0


def test_a_plan_may_be_amended_before_results_and_not_after(tmp_path):
    record = LocalRecord(tmp_path)
    enter_plan(record, "shop", ONE)
    enter_plan(record, "shop", TWO)
    enter_report(record, "shop", TWO, REPORT)
    with pytest.raises(EvaluationError, match="K528"):
        enter_plan(record, "shop", ONE)
    assert enter_plan(record, "other", ONE).subject == "other"


def test_any_changed_byte_of_a_record_is_found(tmp_path):
    record = LocalRecord(tmp_path)
    enter_plan(record, "shop", ONE)
    enter_report(record, "shop", ONE, REPORT)
    whole = record.path.read_bytes()
    for place in range(0, len(whole), 5):
        record.path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(EvaluationError, match="K532"):
            record.entries()
    lines = whole.splitlines(keepends=True)
    record.path.write_bytes(b"".join([lines[0], lines[2]]))
    with pytest.raises(EvaluationError, match="K532"):
        record.entries()
