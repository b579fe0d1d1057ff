"""``report.html``: whole in itself, honest, and safe whatever the titles hold."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from koinon.studies.report import (
    DemoResults,
    Results,
    Sample,
    SampleItem,
    SpaceMap,
    build_results,
    render,
    write_report,
)
from koinon.studies.report.drawing import gain_bar, nice_limit, nice_ticks
from koinon.studies.report.space_map import lay_out
from koinon.studies.report.words import figure, percent, size


@pytest.fixture(scope="module")
def results(demo_results: DemoResults) -> Results:
    return build_results(demo_results)


@pytest.fixture(scope="module")
def page(results: Results, space_map: SpaceMap, samples: list[Sample]) -> str:
    return render(results, space_map=space_map, samples=samples)


class _Outline(HTMLParser):
    VOID = frozenset({"meta", "link", "img", "br", "hr", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.crossed: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.crossed.append(tag)


def _outline(page: str) -> _Outline:
    parser = _Outline()
    parser.feed(page)
    return parser


def test_every_element_is_closed_in_order(page: str):
    outline = _outline(page)
    assert outline.crossed == []
    assert outline.open == []


def test_nothing_is_requested_from_anywhere(page: str):
    for tag, attributes in _outline(page).seen:
        assert tag not in {"link", "img", "iframe", "object", "embed"}
        assert not {"src", "srcset", "action"} & set(attributes)
        assert not (tag == "a" and not (attributes["href"] or "").startswith("#"))
    assert "url(" not in page
    assert "@import" not in page
    assert "default-src 'none'" in page


def test_it_says_who_gains_and_who_does_not_in_its_first_line(page: str, results: Results):
    assert results.summary.headline.split(". ")[0] in re.sub(r"\s+", " ", page)


def test_a_missed_aim_and_an_unprotected_sum_stay_on_the_page(page: str, results: Results):
    missed = [aim for aim in results.summary.aims if aim.reached is False]
    assert missed
    assert page.count("✗ missed") == len(missed)
    assert "Unprotected sums" in page


def test_every_partner_arm_and_interval_is_in_the_table(page: str, results: Results):
    table = page[page.index('<table id="main">') : page.index("</table>")]
    for name, partner in results.partners.items():
        assert f'data-partner="{name}"' in table
        for arm in partner.arms:
            assert figure(partner.arms[arm]["all"]["ndcg@10"].mean) in table


def test_a_hostile_title_stays_a_title(results: Results):
    title = "</script><script>alert(1)</script><b>&\"'"
    sample = Sample(title, "books-de", (SampleItem(title, title, "de", (title,)),), known=(title,), query=title)
    space_map = SpaceMap(np.eye(2, dtype=np.float32), ("books-de",) * 2, ("de",) * 2, (title,) * 2, "method")
    page = render(results, space_map=space_map, samples=[sample])
    assert "<script>alert" not in page
    assert "<b>&" not in page
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert data is not None
    assert json.loads(data[1])["points"][0][4] == title


def test_pictures_say_in_words_what_they_show(page: str):
    pictures = [attributes for tag, attributes in _outline(page).seen if tag == "svg"]
    assert pictures
    assert all(attributes.get("role") == "img" and attributes.get("aria-label") for attributes in pictures)


def test_a_study_of_one_partner_without_map_samples_or_groups_has_a_page_too(demo_results: DemoResults):
    one = {"books-de": demo_results.partners["books-de"]}
    bare = type(demo_results)(**{**demo_results.__dict__, "partners": one, "curves": (), "timings": {}})
    page = render(build_results(bare))
    assert _outline(page).crossed == []
    assert 'id="map"' not in page
    assert 'id="samples"' not in page


def test_both_files_are_written(tmp_path: Path, results: Results):
    path = write_report(tmp_path / "out", results)
    assert path.name == "report.html"
    assert Results.read(tmp_path / "out" / "results.json") == results


def test_the_map_keeps_neighbours_near_and_is_the_same_for_the_same_seed():
    rng = np.random.default_rng(0)
    centres = np.repeat(np.eye(3, 16), 30, axis=0)
    vectors = (centres + 0.05 * rng.normal(size=centres.shape)).astype(np.float32)
    first, second = lay_out(vectors, seed=1), lay_out(vectors, seed=1)
    assert np.array_equal(first, second)
    group = np.repeat(np.arange(3), 30)
    distance = np.linalg.norm(first[:, None] - first[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    assert (group[distance.argmin(axis=1)] == group).mean() > 0.95


@pytest.mark.parametrize("points", [0, 1, 2, 5])
def test_a_tiny_map_is_laid_out_too(points: int):
    assert lay_out(np.eye(5, 8, dtype=np.float32)[:points]).shape == (points, 2)


@pytest.mark.parametrize(
    ("value", "said"), [(0.123, "+12.3\u202f%"), (-0.02, "−2.0\u202f%"), (0.0, "0.0\u202f%"), (None, "–")]
)
def test_shares_have_a_sign_and_a_true_minus(value: float | None, said: str):
    assert percent(value) == said


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (3.2e6, "3.2 MB"), (5e12, "5,000.0 GB")]
)
def test_sizes_are_said_in_the_unit_a_person_would_use(count: float, said: str):
    assert size(count) == said


@pytest.mark.parametrize(("value", "limit"), [(0.05, 0.05), (0.07, 0.08), (0.11, 0.15), (0.33, 0.4), (9, 10), (0, 1)])
def test_axes_end_on_round_numbers(value: float, limit: float):
    assert nice_limit(value) == pytest.approx(limit)


def test_ticks_are_round_and_within_the_axis():
    assert nice_ticks(0.031, 0.084) == pytest.approx([0.04, 0.06, 0.08])
    assert nice_ticks(1.0, 1.0) == [1.0]


def test_an_interval_beyond_the_axis_ends_in_an_arrow():
    drawn = gain_bar(0.2, -0.5, 0.9, axis=(0.1, 0.4), label="l", tone="up")
    assert drawn.count('class="tip"') == 2
