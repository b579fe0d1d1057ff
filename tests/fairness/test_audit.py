"""A whole audit, from the plan to somebody else's check, on a shop with a known truth."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import polars as pl
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from koinon.cli.main import run
from koinon.data import PartnerConfig, Tables, Vault
from koinon.data.partner import UserPolicy
from koinon.data.tables import EVENT_SCHEMA
from koinon.errors import ConfigError, EvaluationError
from koinon.evaluation import evaluate
from koinon.fairness.audit import run_audit
from koinon.fairness.cells import divide
from koinon.fairness.comparing import Comparer
from koinon.fairness.conduct import conduct
from koinon.fairness.drafting import draft, write_plan
from koinon.fairness.frames import label_differences, metric_frame
from koinon.fairness.lists import divergence_js, divergence_kl, is_listed, look
from koinon.fairness.metrics import METRICS
from koinon.fairness.moments import moments_of
from koinon.fairness.plan import PLAN_FILE, AuditPlan, GroupPlan
from koinon.fairness.record import LocalRecord
from koinon.fairness.report import REPORT_FILE, RESULTS_FILE, render
from koinon.fairness.results import AuditResults, Recorded, schema, schema_text
from koinon.fairness.subject import open_sources
from koinon.fairness.units import unite
from koinon.fairness.verifying import verify_audit
from koinon.recommenders.store import save


def planned(shop, folder, **changes):
    """A plan for the shop, written into ``folder``."""
    made = draft(
        "shop",
        [str(shop)],
        folder,
        settings={"lambda_": 20.0},
        attributes=["taste", "age"],
        basis="the works council agreed",
        like_from=4.0,
        tolerance=0.1,
    )
    made = AuditPlan.from_dict({**made.model_dump(mode="json"), "draws": 300, **changes})
    write_plan(folder, made)
    return made


@pytest.fixture(scope="module")
def audited(shop, tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit")
    planned(shop, folder)
    return folder, conduct(folder, LocalRecord(folder))


@pytest.fixture
def copy(audited, tmp_path):
    return shutil.copytree(audited[0], tmp_path / "copy")


@pytest.fixture(scope="module")
def given(shop, tmp_path_factory):
    plan = planned(shop, tmp_path_factory.mktemp("look"))
    source = open_sources(plan, shop)[0]
    return look(source, tuple(METRICS), k=10, patience=0.85, like_from=4.0, seed=0)


def named(results, metric, group, at_equal=None):
    return next(
        one for one in results.comparisons if (one.metric, one.group, one.at_equal) == (metric, group, at_equal)
    )


def test_a_planted_gap_fails_and_names_whom_it_harms(audited):
    _, results = audited
    found = named(results, "ndcg", "taste")
    assert (found.verdict, found.worst, found.best) == ("fail", "roaming", "steady")
    assert found.lo > found.tolerance > found.gap_by_chance
    assert results.verdict == "fail"
    assert named(results, "ndcg", "taste", "activity").lo > 0 or named(results, "ndcg", "taste", "activity").reason


def test_what_makes_no_difference_is_not_called_one(audited):
    found = named(audited[1], "ndcg", "age")
    assert found.verdict in {"insufficient evidence", "pass"}
    assert found.p_adjusted > 0.05


def test_unknown_people_are_counted(audited):
    age = next(group for group in audited[1].groups if group.name == "age")
    assert age.unknown == 30  # every eleventh declares none
    assert sum(cell.n for cell in age.cells) + age.unknown == audited[1].people == 320


def test_cells_stand_within_their_intervals_and_shrunken_between_them(audited):
    for group in audited[1].groups:
        for cell in group.cells:
            if not cell.hidden:
                found = cell.figures["ndcg"]
                assert found.lo <= found.mean <= found.hi
                assert min(found.mean, audited[1].overall["ndcg"].mean) - 0.05 <= found.shrunken


def test_a_small_group_that_nothing_hit_is_not_shown_as_exactly_known(shop, tmp_path):
    plan = planned(shop, tmp_path)
    group = ["none"] * 20 + ["some"] * 300
    ids = [f"u{i:04}" for i in range(320)]
    hits = np.concatenate([np.zeros(20), np.random.default_rng(0).random(300) < 0.3])
    units = unite({"shop": pl.DataFrame({"user_id": ids, "taste": group, "ndcg": hits.astype(float)})}, ("taste",))
    grouping = divide(GroupPlan(name="taste"), units.table["taste"], None, 20)
    plan = plan.model_copy(update={"primary": (), "control": ()})
    lists = np.zeros((320, 10), dtype=np.int32)
    cell = Comparer(plan, units, {"taste": grouping})._group("taste", grouping, lists, 5).cells[0]
    assert (cell.label, cell.figures["ndcg"].mean) == ("none", 0.0)
    assert cell.figures["ndcg"].lo == 0.0
    assert 0.05 < cell.figures["ndcg"].hi < 0.5


def test_per_user_figures_are_the_evaluations(given):
    split = given.source.split
    expected = evaluate(given.source.recommender, given.source.known, split.test, slices=("all",))
    np.testing.assert_allclose(given.people["ndcg"].to_numpy(), expected.values("ndcg@10"))
    np.testing.assert_allclose(given.people["recall"].to_numpy(), expected.values("recall@10"))
    assert [split.train.user_ids[u] for u in expected.per_user["user"]] == given.people["user_id"].to_list()


def test_calibration_is_scipys_divergence():
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet([0.5] * 4, 20), rng.dirichlet([0.5] * 4, 20)
    np.testing.assert_allclose(
        divergence_js(p, q), [jensenshannon(a, b, base=2) ** 2 for a, b in zip(p, q, strict=True)]
    )
    smooth = 0.99 * q + 0.01 * p
    np.testing.assert_allclose(divergence_kl(p, q), [entropy(a, b) for a, b in zip(p, smooth, strict=True)])
    assert np.isnan(divergence_js(np.full((1, 4), np.nan), q[:1])).all()
    one = np.array([[1.0, 0.0]])
    assert divergence_js(one, one)[0] == 0
    assert divergence_js(one, one[:, ::-1])[0] == 1


def test_popularity_lift_cold_share_and_labels_by_hand(given):
    source, row = given.source, 5
    counts = source.known.item_counts
    history = source.split.test.history(row)
    shown = given.lists[row]
    lift = counts[shown].mean() / counts[history].mean() - 1
    assert given.people["popularity_lift"][row] == pytest.approx(lift)
    assert given.people["cold_share"][row] == pytest.approx((counts[shown] == 0).mean())
    target = given.targets[given.target_user == row]
    liked = given.liked[given.target_user == row]
    hit = np.isin(target, shown)
    assert given.people["listed"][row] == hit.mean()
    assert given.people["listed_liked"][row] == pytest.approx(hit[liked].mean() if liked.any() else np.nan, nan_ok=True)
    items = source.known.items["item_id"].to_list()
    assert all(liked == [int(items[i][1:]) % 2 == 1 for i in target])  # odd items have five stars


def test_fairlearns_frame_and_our_moments_give_the_same_means(given):
    people = given.people.select("user_id", "ndcg", "listed_liked")
    taste = ["steady" if int(user[1:]) % 2 == 0 else "roaming" for user in people["user_id"]]
    units = unite({"shop": people.insert_column(1, people["user_id"].replace_strict(
        dict(zip(people["user_id"], taste, strict=True))).alias("taste"))}, ("taste",))  # fmt: skip
    grouping = divide(GroupPlan(name="taste"), units.table["taste"], None, 20)
    frame = metric_frame(units, grouping).by_group
    ours = moments_of(units.values, grouping.cell, 2).means
    np.testing.assert_allclose(frame.loc[list(grouping.labels)].to_numpy(dtype=float), ours)


def test_label_differences_are_fairlearns_by_hand(given):
    listed = is_listed(given.lists, given.targets, given.target_user)
    group = np.array(["even" if user % 2 == 0 else "odd" for user in given.target_user])
    found = label_differences(given.liked, listed, group)
    rates = {of: [listed[keep & (group == of)].mean() for keep in (np.ones_like(listed), given.liked, ~given.liked)]
             for of in ("even", "odd")}  # fmt: skip
    gaps = np.abs(np.subtract(rates["even"], rates["odd"]))
    assert found["demographic_parity_difference"] == pytest.approx(gaps[0])
    assert found["equal_opportunity_difference"] == pytest.approx(gaps[1])
    assert found["equalized_odds_difference"] == pytest.approx(max(gaps[1:]))


def test_results_follow_the_published_schema_and_the_schema_the_types(audited):
    jsonschema.validate(json.loads((audited[0] / RESULTS_FILE).read_text()), schema())
    assert json.loads(schema_text()) == schema()
    published = Path(__file__).parents[2] / "docs" / "audit.schema.json"
    assert json.loads(published.read_text(encoding="utf-8")) == schema()
    assert AuditResults.read(audited[0] / RESULTS_FILE) == audited[1]


def test_the_page_shows_verdict_hash_and_who_is_missing_and_asks_for_nothing(audited):
    page = (audited[0] / REPORT_FILE).read_text()
    assert audited[1].plan_sha256 in page
    assert "not declared, in no comparison" in page
    for forbidden in ("<script", "http://", "https://", "src=", "@import"):
        assert forbidden not in page


def test_an_honest_audit_holds_and_says_what_was_not_checked(audited):
    checks = {check.what: check.held for check in verify_audit(audited[0], LocalRecord(audited[0]))}
    assert checks.pop("figures") is None
    assert checks.pop("identity") is None
    assert all(checks.values())


def test_recomputing_gives_the_same_figures(audited):
    checks = {check.what: check for check in verify_audit(audited[0], LocalRecord(audited[0]), recompute=True)}
    assert checks["figures"].held, checks["figures"].said


@pytest.mark.parametrize("file", [RESULTS_FILE, PLAN_FILE, REPORT_FILE])
def test_any_changed_byte_is_found(copy, file):
    whole = (copy / file).read_bytes()
    rng = np.random.default_rng(0)
    for place in [0, len(whole) - 1, *rng.integers(0, len(whole), 8)]:
        changed = bytes([whole[place] ^ 1])
        (copy / file).write_bytes(whole[:place] + changed + whole[place + 1 :])
        assert any(check.held is False for check in verify_audit(copy, LocalRecord(copy))), place


def test_a_verdict_that_was_mended_by_hand_is_found_though_entered_anew(copy):
    from koinon.fairness.record import enter_report
    from koinon.fairness.report import write_report

    results = AuditResults.read(copy / RESULTS_FILE)
    better = [one.model_copy(update={"verdict": one.verdict and "pass"}) for one in results.comparisons]
    mended = results.model_copy(update={"comparisons": better, "verdict": "pass"})
    enter_report(LocalRecord(copy), mended.name, mended.plan_sha256, write_report(copy, mended))
    checks = {check.what: check.held for check in verify_audit(copy, LocalRecord(copy))}
    assert checks["results"]
    assert checks["verdicts"] is False


def test_a_plan_that_is_changed_after_results_is_not_run_again(copy):
    plan = (copy / PLAN_FILE).read_text()
    (copy / PLAN_FILE).write_text(plan.replace("tolerance = 0.1", "tolerance = 0.9"))
    with pytest.raises(EvaluationError, match="K528"):
        conduct(copy, LocalRecord(copy))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"groups": [{"name": "height"}], "primary": None}, "K512"),
        ({"groups": [{"name": "planet"}], "primary": None}, "K522"),
        ({"groups": [{"name": "age"}], "minimum_cell": 150, "primary": None}, "K524"),
        ({"groups": [{"name": "taste"}], "primary": None, "basis": ""}, "K525"),
        ({"groups": [{"name": "age"}], "primary": None, "exploratory": ["listed_liked"], "like_from": None}, "K530"),
    ],
)
def test_bad_input_gives_one_clear_error_and_no_report(shop, tmp_path, changes, code):
    group = changes["groups"][0]["name"]
    data = {"sources": [str(shop)], "basis": changes.get("basis", "agreed"), "like_from": changes.get("like_from", 4.0)}
    raw = {
        "name": "bad", "question": "Is anybody served worse?", "system": {"recommender": "popularity"}, "data": data,
        "groups": changes["groups"], "primary": [{"metric": "ndcg", "group": group, "tolerance": 0.1}],
        "exploratory": changes.get("exploratory", []), "minimum_cell": changes.get("minimum_cell", 20),
    }  # fmt: skip
    write_plan(tmp_path, AuditPlan.from_dict(raw))
    with pytest.raises(EvaluationError, match=code):
        conduct(tmp_path, LocalRecord(tmp_path))
    assert not (tmp_path / RESULTS_FILE).exists()
    assert not (tmp_path / REPORT_FILE).exists()


def test_a_kept_recommender_is_audited_if_it_is_the_one_that_was_planned(shop, tmp_path):
    partner = shutil.copytree(shop, tmp_path / "shop")
    plan = planned(partner, tmp_path / "first")
    source = open_sources(plan, tmp_path)[0]
    save(source.recommender, partner / "models" / "mine", source.known)
    kept = draft("kept", [str(partner)], tmp_path, kept="models/mine", attributes=["age"])
    assert open_sources(kept, tmp_path)[0].recommender.name == "ease"
    other = type(source.recommender)(source.recommender.config.model_copy(update={"lambda_": 999.0}))
    save(other.fit(source.known, None, rng=np.random.default_rng(0)), partner / "models" / "mine", source.known)
    with pytest.raises(EvaluationError, match="K526"):
        open_sources(kept, tmp_path)


def test_the_commands_plan_run_and_verify(shop, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    partner = Vault(shop).root
    asked = ["--partner", str(partner), "--attribute", "taste", "--basis", "agreed", "-r", "popularity"]
    assert run(["audit", "plan", "mine", *asked]) == 0
    assert "entered" in capsys.readouterr().out
    assert run(["audit", "plan", "mine", *asked]) == 6
    assert "K537" in capsys.readouterr().err
    path = tmp_path / "mine" / PLAN_FILE
    path.write_text(path.read_text().replace("draws = 2000", "draws = 200"))
    assert run(["audit", "run", "mine", "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert results["name"] == "mine"
    assert results["record"]["sequence"] == 3  # the amended plan, before any result
    assert run(["audit", "verify", "mine", "--json"]) == 0
    assert {check["what"]: check["held"] for check in json.loads(capsys.readouterr().out)}["results"]
    assert run(["ledger", "verify", str(tmp_path / "mine" / "record.jsonl")]) == 0
    assert run(["audit", "run", "mine", "--fail-on", "insufficient"]) == (0 if results["verdict"] == "pass" else 6)
    capsys.readouterr()
    (tmp_path / "mine" / RESULTS_FILE).write_text("{}")
    assert run(["audit", "verify", "mine"]) == 6
    assert "K529" in capsys.readouterr().err


def test_an_audit_is_entered_in_a_federations_ledger(shop, tmp_path, capsys, monkeypatch):
    from koinon.privacy.signing import Signer
    from koinon.server.record import KEY_FILE, LEDGER_FILE
    from koinon.server.state import LedgerBook, open_store

    monkeypatch.chdir(tmp_path)
    store = open_store(tmp_path / "out" / LEDGER_FILE)
    LedgerBook(store, Signer.open(tmp_path / "out" / KEY_FILE)).begin("shops", "a" * 64)
    store.close()
    asked = ["--partner", str(shop), "--attribute", "age", "-r", "popularity", "--record", "out"]
    assert run(["audit", "plan", "mine", *asked]) == 0
    path = tmp_path / "mine" / PLAN_FILE
    path.write_text(path.read_text().replace("draws = 2000", "draws = 200"))
    assert run(["audit", "run", "mine"]) == 0
    assert run(["audit", "verify", "mine"]) == 0
    assert not (tmp_path / "mine" / "record.jsonl").exists()
    capsys.readouterr()
    assert run(["ledger", "show", "out"]) == 0
    said = capsys.readouterr().out
    assert said.index("audit_plan") < said.rindex("audit ")
    assert run(["ledger", "verify", "out"]) == 0


def test_only_clear_differences_are_marked(audited):
    page = (audited[0] / REPORT_FILE).read_text()
    marked = re.findall(r'<b class="warn">(?:< )?([0-9.]+)</b>', page)
    clear = [one for one in audited[1].comparisons if one.family == "exploratory" and (one.p_adjusted or 1.0) < 0.05]
    assert len(marked) == len(clear)
    assert all(float(p) <= 0.05 for p in marked)


def test_a_window_asks_only_those_whose_day_it_is(shop, tmp_path):
    tables = Vault(shop).tables()
    days = pl.Series("timestamp", np.arange(tables.events.height) % 100 * 86_400_000)
    timed = tables.events.with_columns(days.cast(EVENT_SCHEMA["timestamp"]))
    policy = UserPolicy(attributes=("taste",))
    Vault.create(
        tmp_path / "timed", PartnerConfig(name="timed", users=policy), Tables(tables.items, timed, tables.users)
    )
    made = draft("timed", [str(tmp_path / "timed")], tmp_path, recommender="popularity", attributes=["taste"])
    raw = made.model_dump(mode="json")
    raw["data"]["window"] = {"first": "1970-01-11", "last": "1970-02-19"}  # days 10 to 49
    raw |= {"draws": 200, "control": [], "groups": [{"name": "taste"}], "primary": raw["primary"][:1]}
    plan = AuditPlan.from_dict(raw)
    recorded = Recorded(kind="local", key="", sequence=1, time="", hash="")
    results = run_audit(plan, "0" * 64, recorded, tmp_path)
    (source,) = open_sources(plan, tmp_path)
    day = source.split.test.time // 86_400_000
    inside = source.split.test.main & (day >= 10) & (day <= 49)
    assert results.people == inside.sum() < source.split.test.main.sum()
    assert results.excluded["asked outside the window"] == (source.split.test.main & ~inside).sum()
    assert "1970-01-11 to 1970-02-19" in render(results)


def test_a_window_needs_times(shop, tmp_path):
    made = draft("shop", [str(shop)], tmp_path, recommender="popularity", attributes=["age"]).model_dump(mode="json")
    made["data"]["window"] = {"first": "2024-01-01", "last": "2024-02-01"}
    write_plan(tmp_path, AuditPlan.from_dict(made))
    with pytest.raises(EvaluationError, match=r"K530.*window"):
        conduct(tmp_path, LocalRecord(tmp_path))
    made["data"]["window"] = {"first": "2024-02-01", "last": "2024-01-01"}
    with pytest.raises(ConfigError, match="K103"):
        AuditPlan.from_dict(made)
