"""Remedies weighed in an audit, on the shop whose recommender serves one group badly."""

from __future__ import annotations

import json
from typing import get_args

import numpy as np
import polars as pl
import pytest

from koinon.errors import ConfigError
from koinon.fairness.conduct import conduct
from koinon.fairness.drafting import draft, write_plan
from koinon.fairness.lists import look
from koinon.fairness.mitigation.findings import Effect, Mitigation
from koinon.fairness.mitigation.plan import MitigationPlan, Remedy
from koinon.fairness.mitigation.remedies import Stage, popularity_bands, treatments
from koinon.fairness.mitigation.section import draw_frontiers, mitigation_section
from koinon.fairness.mitigation.weighing import _before_validation, _chosen, _lifted, weigh
from koinon.fairness.plan import AuditPlan
from koinon.fairness.record import LocalRecord
from koinon.fairness.report import REPORT_FILE
from koinon.fairness.results import AuditResults
from koinon.fairness.subject import open_sources
from koinon.fairness.verifying import verify_audit
from koinon.fairness.words import words_in
from tests.fairness.mitigation.conftest import domain_of

REMEDIES = set(get_args(Remedy))


def planned(shop, folder, **changes):
    made = draft(
        "shop",
        [str(shop)],
        folder,
        settings={"lambda_": 20.0},
        attributes=["taste"],
        basis="agreed",
        tolerance=0.05,
        mitigate=True,
    )
    raw = made.model_dump(mode="json", exclude_none=True)
    raw |= {
        "draws": 300,
        "mitigation": {"dials": [0.3, 1.0], "largest_cost": 0.2, "depth": 40},
        "primary": [
            {"metric": "ndcg", "group": "taste", "tolerance": 0.05},
            {"metric": "miscalibration_kl", "group": "taste", "tolerance": 0.01},
        ],
        "providers": [{"by": "popularity", "tolerance": 0.02}],
    }
    made = AuditPlan.from_dict({**raw, **changes})
    write_plan(folder, made)
    return made


@pytest.fixture(scope="module")
def audited(shop, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mended")
    planned(shop, folder)
    return folder, conduct(folder, LocalRecord(folder))


def test_every_remedy_has_its_frontier_from_the_same_start(audited):
    found = audited[1].mitigation
    assert {one.remedy for one in found.frontiers} == REMEDIES
    starts = {(one.points[0].ndcg, tuple(one.points[0].gaps)) for one in found.frontiers}
    assert len(starts) == 1
    assert all([point.dial for point in one.points] == [0.0, 0.3, 1.0] for one in found.frontiers)


def test_validation_chooses_and_the_test_is_read_for_that(audited):
    found = audited[1].mitigation
    for place, question in enumerate(found.questions):
        for option in question.options:
            frontier = next(one for one in found.frontiers if (one.remedy, one.of) == (option.remedy, option.of))
            start, point = frontier.points[0], next(one for one in frontier.points if one.dial == option.dial)
            assert point.gaps[place] < start.gaps[place]
            assert point.ndcg >= start.ndcg * 0.8
            assert option.mended == (option.after.value <= question.before.value / 2 and option.cost.value <= 0.2)


def test_a_planted_gap_of_calibration_is_mended_by_calibration(audited):
    question = next(one for one in audited[1].mitigation.questions if one.metric == "miscalibration_kl")
    option = next(one for one in question.options if one.remedy == "calibrated")
    assert option.left.hi < 1
    assert option.left.value == pytest.approx(
        np.subtract(*[one.after for one in option.effects]) / np.subtract(*[one.before for one in option.effects])
    )
    assert sum(one.n for one in option.effects) == audited[1].people


def test_the_gap_before_is_the_audits_own(audited):
    _, results = audited
    told = {(one.metric, one.group): one.gap for one in results.comparisons if one.at_equal is None}
    for question in results.mitigation.questions:
        if question.metric != "attention":
            assert question.before.value == told[question.metric, question.over]


def test_the_report_says_it_and_the_audit_verifies(audited):
    folder, results = audited
    page = (folder / REPORT_FILE).read_text(encoding="utf-8")
    assert "What can be done, and what it costs" in page
    assert page.count('class="frontier"') == len(results.mitigation.questions)
    assert all(check.held is not False for check in verify_audit(folder, LocalRecord(folder)))
    assert AuditResults.model_validate(json.loads(results.to_json())).mitigation == results.mitigation


def test_remedies_come_out_alike_when_computed_again(audited):
    folder, _ = audited
    checks = {check.what: check for check in verify_audit(folder, LocalRecord(folder), recompute=True)}
    assert checks["figures"].said == "Computed again from the data, every figure is as reported."


def test_remedies_and_what_they_need_of_groups(shop, audited):
    plan, _ = AuditPlan.read(audited[0] / "plan.toml")
    source = _before_validation(plan, open_sources(plan, audited[0])[0])
    given = look(source, plan.metrics, k=10, patience=0.85, like_from=None, seed=0)
    users = source.tables.users
    taste = dict(zip(users["user_id"], users["taste"], strict=True))
    from koinon.fairness.cells import divide

    values = pl.Series([taste[user] for user in given.people["user_id"]])
    grouping = divide(plan.groups[0], values, None, 20)
    stage = Stage(plan, source, source.recommender, {"taste": grouping})
    cell = stage.group("taste")
    assert [grouping.labels[one] for one in cell] == [taste[user] for user in source.known.user_ids]
    names = {(one.remedy, one.of): one.asks_group for one in treatments(plan, [stage], ["taste"], ["popularity"])}
    assert names["weighted", "taste"] is False
    assert names["decorrelated", "taste"] is True
    assert ("exposure_shared", "popularity, taste") in names
    assert not any(of for remedy, of in names if remedy in {"calibrated", "balanced"})


def test_the_least_gap_within_the_cost_is_chosen():
    found = Mitigation.model_validate(
        {
            "largest_cost": 0.02,
            "questions": [],
            "frontiers": [
                {
                    "remedy": "alike",
                    "of": "",
                    "asks_group": False,
                    "points": [
                        {"dial": dial, "ndcg": ndcg, "gaps": [gap, None], "figures": {}}
                        for dial, ndcg, gap in [(0, 1, 0.4), (0.1, 0.99, 0.3), (0.2, 0.985, 0.2), (0.5, 0.9, 0.0)]
                    ],
                }
            ],
        }
    )
    frontier = found.frontiers[0]
    assert _chosen(frontier, 0, 0.02) == 0.2
    assert _chosen(frontier, 0, 0.0) is None
    assert _chosen(frontier, 1, 0.02) is None
    assert draw_frontiers(found, 0, words_in("en"), label="gap").count("<circle") == 3
    assert "nothing to mend" in mitigation_section(found, 10, words_in("en"))
    assert "weighs no remedies" in mitigation_section(None, 10, words_in("en"))


def effect(before, after):
    return Effect(label="", n=1, before=before, after=after, ndcg_before=None, ndcg_after=None)


def test_whether_a_gap_closes_by_lifting_or_by_others_loss():
    lifted = [effect(0.2, 0.3), effect(0.5, 0.5)]
    levelled = [effect(0.2, 0.2), effect(0.5, 0.4)]
    half = [effect(0.2, 0.25), effect(0.5, 0.45), effect(0.4, 0.0)]
    assert [_lifted(one, "more") for one in (lifted, levelled, half)] == pytest.approx([1.0, 0.0, 0.5])
    assert _lifted([effect(0.5, 0.4), effect(0.2, 0.2)], "less") == pytest.approx(1.0)  # the one with more is worse off
    assert _lifted([effect(0.2, 0.5), effect(0.5, 0.6)], "more") == 1.0  # both gain, the worst-served more
    assert _lifted([effect(0.2, 0.1), effect(0.5, 0.5)], "more") is None
    assert _lifted(lifted, "neither") is None


def test_bands_of_popularity_hold_as_many_events_each():
    domain = domain_of([[0], [0], [0], [0, 1], [1], [1, 2], [2, 3], [4]], 6)  # 4, 3, 2, 1, 1, 0 times
    bands = popularity_bands(domain)
    assert bands.sum(axis=1).tolist() == [1] * 6
    assert bands.argmax(axis=1).tolist() == [0, 1, 3, 4, 4, 4]


def test_a_kept_recommender_has_seen_validation(shop, tmp_path):
    made = planned(shop, tmp_path).model_dump(mode="json", exclude_none=True)
    with pytest.raises(ConfigError, match="validation"):
        AuditPlan.from_dict({**made, "system": {"kept": "models/local", "release": {}}})


def test_nothing_is_weighed_unless_planned(audited):
    assert AuditPlan.model_fields["mitigation"].default is None
    folder, results = audited
    plan, _ = AuditPlan.read(folder / "plan.toml")
    sources = open_sources(plan, folder)
    assert weigh(plan.model_copy(update={"mitigation": None}), sources, results.comparisons, None) is None


def test_a_plan_drafted_with_mitigation_names_every_remedy(shop, tmp_path):
    options = {"attributes": ["taste"], "basis": "agreed"}
    assert draft("shop", [str(shop)], tmp_path, mitigate=True, **options).mitigation == MitigationPlan()
    assert draft("shop", [str(shop)], tmp_path, **options).mitigation is None
    assert set(MitigationPlan().remedies) == REMEDIES
