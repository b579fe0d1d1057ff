"""``results.json``: what it holds, and that it follows its published schema."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import polars as pl
import pytest

from koinon.errors import EvaluationError
from koinon.studies.report import DemoResults, Results, build_results
from koinon.studies.report.build import group_rows

DOCS = Path(__file__).parents[4] / "docs" / "results.schema.json"


@pytest.fixture(scope="module")
def results(demo_results: DemoResults) -> Results:
    return build_results(demo_results)


def test_the_published_schema_is_the_one_of_the_types():
    how = "Run: python -c 'from koinon.studies.report import Results; print(Results.schema_text(), end=\"\")'"
    assert DOCS.read_text(encoding="utf-8") == Results.schema_text(), how
    assert Results.published_schema() == json.loads(Results.schema_text()), how


def test_a_written_document_follows_the_schema_and_reads_back_as_it_was(results: Results, tmp_path: Path):
    results.write(tmp_path / "results.json")
    jsonschema.validate(json.loads((tmp_path / "results.json").read_text(encoding="utf-8")), Results.published_schema())
    assert Results.read(tmp_path / "results.json") == results


def test_a_figure_is_found_where_the_readme_says(results: Results):
    raw = json.loads(results.model_dump_json())
    figure = raw["partners"]["books-de"]["arms"]["federated"]["all"]["ndcg@10"]
    assert set(figure) == {"mean", "lo", "hi", "n"}
    assert figure["lo"] <= figure["mean"] <= figure["hi"]


def test_means_are_those_of_the_per_user_values(results: Results, demo_results: DemoResults):
    for name, partner in demo_results.partners.items():
        for arm, evaluation in partner.arms.items():
            for slice_ in ("all", "cold_users"):
                found = results.partners[name].arms[arm][slice_]["mrr@10"]
                assert found.mean == pytest.approx(evaluation.mean("mrr@10", slice_))


def test_a_gain_is_the_difference_of_the_means_over_the_same_people(results: Results):
    for partner in results.partners.values():
        gain = partner.gains["federated_vs_local"]["all"]
        federated, local = (partner.arms[arm]["all"]["ndcg@10"].mean for arm in ("federated", "local"))
        assert gain.mean == pytest.approx(federated - local)
        assert gain.relative == pytest.approx((federated - local) / local)
        assert gain.p <= gain.p_holm


def test_harmed_means_clearly_below_the_same_without_federation(demo_results: DemoResults):
    worse = dict(demo_results.partners)
    us = worse["books-en-us"]
    worse["books-en-us"] = type(us)(**{**us.__dict__, "arms": {**us.arms, "federated": us.arms["local"]}})
    results = build_results(type(demo_results)(**{**demo_results.__dict__, "partners": worse}))
    assert results.summary.harmed == ["books-en-us"]
    assert results.partners["books-en-us"].harmed
    assert "harms books-en-us" in results.summary.headline
    assert next(aim for aim in results.summary.aims if aim.name == "no_partner_harmed").reached is False


def test_an_arm_that_was_not_run_leaves_its_aims_unmeasured_rather_than_missed(demo_results: DemoResults):
    bare = {
        name: type(p)(**{**p.__dict__, "arms": {a: e for a, e in p.arms.items() if a != "pooled"}})
        for name, p in demo_results.partners.items()
    }
    results = build_results(type(demo_results)(**{**demo_results.__dict__, "partners": bare}))
    assert next(aim for aim in results.summary.aims if aim.name == "near_pooled").reached is None


def test_small_groups_are_not_shown_nor_found_by_subtraction(demo_results: DemoResults):
    partner = demo_results.partners["books-de"]
    users = partner.arms["local"].per_user.filter(pl.col("slice") == "all")["user"]
    groups = ["rare"] * 5 + ["small"] * 30 + ["large"] * (len(users) - 35)
    attributes = pl.DataFrame({"user": users, "group": groups})
    rows = group_rows("books-de", type(partner)(**{**partner.__dict__, "attributes": attributes}))
    shown = {row.group: row.n for row in rows if not row.suppressed}
    assert shown == {"large": len(users) - 35}
    assert all(row.n is None and not row.arms for row in rows if row.suppressed)


def test_bands_stand_in_the_order_of_their_numbers(results: Results):
    bands = [row.group for row in results.groups if row.partner == "movies-drama" and row.attribute == "age_band"]
    assert bands == ["<25", "25–34", "35–49", "50+"]


@pytest.mark.parametrize(("content", "code"), [(None, "K510"), ("{}", "K511"), ("{", "K511"), ('{"seed": 1}', "K511")])
def test_a_document_that_cannot_be_used_is_refused(tmp_path: Path, content: str | None, code: str):
    path = tmp_path / "results.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(EvaluationError) as caught:
        Results.read(path)
    assert caught.value.code == code
