"""``report.html``: whole in itself, safe whatever titles hold, and honest about what did not run."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from koinon.evaluation import bootstrap_mean, holm, paired_gain
from koinon.studies.paradigms.criteria import CRITERIA
from koinon.studies.paradigms.findings import find
from koinon.studies.paradigms.render import render
from koinon.studies.paradigms.results import About, ArmResult, Cost, DataResult, StudyResults
from koinon.studies.paradigms.scatter import Point, scatter
from koinon.studies.paradigms.statistics import compared
from koinon.studies.paradigms.tables import markdown

DOCS = Path(__file__).parents[4] / "docs" / "study.schema.json"
ARMS = {"ease": "conventional", "semantic-ease": "serial: embeddings", "prompted": "LLM as RS"}


def people(level, users=60, seed=0):
    rng = np.random.default_rng(seed)
    values = np.clip(level + 0.2 * rng.standard_normal(users), 0, 1)
    return pl.DataFrame(
        {"user": np.arange(users), **{f"{name}@10": values for name in ("ndcg", "recall", "hr", "mrr")}}
    )


@pytest.fixture(scope="module")
def results():
    slices = {"ease": {"all": people(0.3)}, "semantic-ease": {"all": people(0.5, seed=1)}}
    figures, gains = compared(slices, "ease", 10)
    arms = {
        name: ArmResult(
            seeds=[0], sampled=False, settings_from="kept", settings={}, validation=0.3, figures=figures[name],
            gains=gains[name], seed_deviation=0.01, lists={"coverage@10": 0.4, "novelty@10": 3.0},
            cost=Cost(fit_seconds=2.0, search_seconds=1.0, peak_mb=300.0, begun_mb=200.0, p50_ms=1.0, p95_ms=2.0,
                      parameters=1000),
        )
        for name in slices
    }  # fmt: skip
    data = {
        "<b>shop</b>": DataResult(
            source="shop", protocol="time", users=60, items=50, events=500, test_users=60, cold_items=3,
            chance_among_cold=None, reference="ease", click_reference=None, arms=arms,
            not_run={"prompted": "no language model was named (--model)"},
        )
    }  # fmt: skip
    about = {
        name: About(
            title=f"{name} <script>", paradigm=paradigm, about="One.",
            where=None if paradigm == "conventional" else "feature encoder",
            tuned=None if paradigm == "conventional" else False,
            with_conventional=None if paradigm == "conventional" else True,
        )
        for name, paradigm in ARMS.items()
    }  # fmt: skip
    return StudyResults(
        koinon_version="0", created="2026-01-01T00:00:00+00:00", command="koinon study run paradigms",
        machine={"cores": 2}, settings={"k": 10, "seeds": [0], "data": ["shop"]}, arms=about, data=data,
        findings=find(about, data), versions={"numpy": "2"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def page(results):
    return render(results)


class Outline(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.crossed, self.seen = [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.crossed.append(tag)


def test_the_published_schema_is_the_one_of_the_types():
    how = "Run: make schema"
    assert DOCS.read_text(encoding="utf-8") == StudyResults.schema_text(), how


def test_every_element_is_closed_and_nothing_is_requested_or_run(page):
    outline = Outline()
    outline.feed(page)
    assert outline.open == []
    assert outline.crossed == []
    for tag, attributes in outline.seen:
        assert tag not in {"script", "link", "img", "iframe", "object", "embed"}
        assert not {"src", "srcset", "action", "onclick"} & set(attributes)
        assert tag != "a" or attributes["href"].startswith("#")
    assert "url(" not in page
    assert "default-src 'none'" in page
    identifiers = re.findall(r' id="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(identifiers)


def test_names_are_text_and_not_markup(page):
    assert "<b>shop" not in page
    assert "&lt;b&gt;shop" in page
    assert "ease &lt;script&gt;" in page


def test_pictures_and_tables_have_names(page):
    outline = Outline()
    outline.feed(page)
    assert all(a.get("aria-label") for tag, a in outline.seen if tag == "svg")
    assert all(a.get("scope") for tag, a in outline.seen if tag == "th")
    assert sum(tag == "svg" for tag, _ in outline.seen) == 1


def test_what_did_not_run_stands_there_with_the_reason(page):
    assert "no language model was named (--model)" in page
    assert "prompted &lt;script&gt;" in page


def test_every_criterion_is_explained(page):
    for one in CRITERIA:
        assert one.trust[:40].replace("'", "&#39;") in page


def test_the_reference_and_verdicts_are_marked(page):
    assert 'class="mark ref">ref' in page
    assert re.search(r'<td class="better[^>]*>.*?<span class="mark">\+</span>', page)


def test_one_drawing_gives_what_drawing_for_each_gives():
    arms = {name: {"all": people(level, seed=seed)} for seed, (name, level) in enumerate({"a": 0.3, "b": 0.4}.items())}
    arms["few"] = {"all": people(0.4, users=20, seed=4)}
    figures, gains = compared(arms, "a", 10)
    values = {name: one["all"]["ndcg@10"].to_numpy() for name, one in arms.items()}
    for name, found in values.items():
        assert figures[name]["all"]["ndcg@10"].model_dump() == pytest.approx(bootstrap_mean(found).as_dict())
    expected = {"b": paired_gain(values["b"], values["a"]), "few": paired_gain(values["few"], values["a"][:20])}
    adjusted = holm([one.p for one in expected.values()])
    for (name, one), p in zip(expected.items(), adjusted, strict=True):
        told = gains[name]["all"]
        assert (told.mean, told.lo, told.hi, told.p) == pytest.approx((one.gain, one.lo, one.hi, one.p))
        assert told.p_holm == pytest.approx(p)
        assert told.n == one.n
    assert gains["a"] == {}


def test_names_in_a_scatter_do_not_stand_on_each_other():
    points = [Point(f"arm {n}", "p0", 10.0 ** (n % 3), 0.3 + 0.001 * n, 0.2, 0.4) for n in range(9)]
    drawn = scatter(points, label="all", cost="s", quality="q")
    names = [(float(x), float(y)) for x, y in re.findall(r'class="name" x="([\d.]+)" y="([\d.]+)"', drawn)]
    assert len(names) == 9
    for one, (x, y) in enumerate(names):
        for other, (x2, y2) in enumerate(names):
            assert one == other or abs(y - y2) >= 10 or abs(x - x2) >= 100
    assert all(f"<title>arm {n}: " in drawn for n in range(9))


def test_a_scatter_of_nothing_is_nothing():
    assert scatter([], label="", cost="", quality="") == ""


def test_the_tables_hold_what_the_document_holds(results):
    text = markdown(results)
    everybody = results.data["<b>shop</b>"].arms["ease"].figures["all"]["ndcg@10"]
    (row,) = [line for line in text.split("**Lists")[0].splitlines() if line.startswith("| ease <")]
    assert f"| {everybody.mean:.4f} [".replace("0.", ".") in row
    assert row.endswith("ref |")
    assert "0.40 · 3.0 · – |" in text
    assert "2 · 300 · 1 |" in text
    assert "**Clicks**" not in text
    for table in text.strip().split("\n\n")[1::2]:
        assert len({line.count("|") for line in table.splitlines()}) == 1


@pytest.mark.parametrize("sampled", [False, True])
def test_what_a_sample_of_lists_shows_of_a_catalogue_is_not_compared(results, sampled):
    data = results.data["<b>shop</b>"]
    asked = data.arms["semantic-ease"].model_copy(update={"sampled": sampled, "lists": {"coverage@10": 0.01}})
    other = data.model_copy(update={"arms": {**data.arms, "semantic-ease": asked}})
    told = find(results.arms, {"shop": other})
    of_it = [one for one in told if one.paradigm == "serial: embeddings" and "share of the catalogue" in one.question]
    assert [one.kind for one in of_it] == ([] if sampled else ["weak"])
