"""Two audits of two releases side by side."""

from __future__ import annotations

import json

import pytest

from koinon.cli.main import run
from koinon.errors import EvaluationError
from koinon.fairness.conduct import conduct
from koinon.fairness.differing import differ
from koinon.fairness.drafting import draft, write_plan
from koinon.fairness.plan import AuditPlan
from koinon.fairness.record import LocalRecord


def audited(shop, folder, recommender, **changes):
    made = draft(folder.name, [str(shop)], folder, recommender=recommender, attributes=["taste"], basis="agreed")
    write_plan(folder, AuditPlan.from_dict({**made.model_dump(mode="json"), "draws": 200, "control": [], **changes}))
    return conduct(folder, LocalRecord(folder))


@pytest.fixture(scope="module")
def folders(shop, tmp_path_factory):
    return [tmp_path_factory.mktemp("releases") / name for name in ("release-6", "release-7")]


@pytest.fixture(scope="module")
def both(shop, folders):
    """Popularity serves all alike; EASE serves the steady better."""
    return audited(shop, folders[0], "popularity"), audited(shop, folders[1], "ease")


def test_it_shows_the_plans_verdicts_and_cells_that_changed(both):
    found = differ(*both)
    assert {change.key: (change.before, change.after) for change in found.plan} == {
        "system.recommender": ("popularity", "ease")
    }
    assert found.verdict == (both[0].verdict, both[1].verdict)
    taste = next(one for one in found.questions if one.group == "taste")
    assert (taste.after.verdict, taste.after.worst, taste.worse, taste.apart) == ("fail", "roaming", True, True)
    roaming = next(cell for cell in found.cells if (cell.group, cell.cell) == ("taste", "roaming"))
    group = next(group for group in both[0].groups if group.name == "taste")
    before = next(cell for cell in group.cells if cell.label == "roaming")
    assert (roaming.n_before, roaming.before) == (before.figures["ndcg"].n, before.figures["ndcg"].mean)
    assert roaming.after is not None
    assert found.gains == []


def test_an_audit_does_not_differ_from_itself(both):
    found = differ(both[0], both[0])
    assert (found.plan, found.verdict[0]) == ([], found.verdict[1])
    assert all(one.before == one.after and not one.worse and not one.apart for one in found.questions)
    assert all((cell.n_before, cell.before) == (cell.n_after, cell.after) for cell in found.cells)


@pytest.mark.parametrize(
    "changes",
    [{"k": 5}, {"patience": 0.5}, {"primary": []}, {"data": {"protocol": "time"}}],
    ids=["other lists", "other browsing", "nothing in common", "other division"],
)
def test_what_cannot_be_compared_is_refused(both, changes):
    if changes == {"primary": []}:
        renamed = [one.model_copy(update={"metric": "recall"}) for one in both[1].comparisons]
        other = both[1].model_copy(update={"comparisons": renamed})
    else:
        other = both[1].model_copy(update={"plan": {**both[1].plan, **changes}})
    with pytest.raises(EvaluationError, match="K554"):
        differ(both[0], other)


def test_groups_that_are_divided_otherwise_are_not_held_against_each_other(both):
    groups = [{**group, "merge": {"both": ["x", "y"]}} if group["name"] == "taste" else group
              for group in both[1].plan["groups"]]  # fmt: skip
    found = differ(both[0], both[1].model_copy(update={"plan": {**both[1].plan, "groups": groups}}))
    assert {one.note for one in found.questions if one.group == "taste"} == {"the groups are divided otherwise"}
    assert not [cell for cell in found.cells if cell.group == "taste"]
    assert [change.key for change in found.plan if change.key.startswith("groups")] == ["groups.taste.merge.both"]


def test_the_command_prints_for_people_and_for_programs(both, folders, capsys):
    assert run(["audit", "diff", str(folders[0]), str(folders[1])]) == 0
    said = capsys.readouterr().out
    assert "release-6 → release-7" in said
    assert "system.recommender: popularity → ease" in said
    assert "→ fail" in said
    assert run(["audit", "diff", str(folders[0]), str(folders[1]), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["questions"][0]["after"]["tolerance"] == 0.03
    assert run(["audit", "diff", str(folders[0]), str(folders[0].parent)]) == 6
    assert "K534" in capsys.readouterr().err
