"""The page for everybody: order, structure, contrast, keyboard, print."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise

import pytest

from koinon.fairness.report import render
from koinon.fairness.words import LANGUAGES

ORDER = ["verdict", "scope", "system", "data", "method", "results", "intersections", "providers", "probes",
         "federation", "privacy", "mitigation", "limits", "glossary", "again"]  # fmt: skip
VOID = {"meta", "br", "line", "rect", "circle", "polyline", "path"}


class _Tree(HTMLParser):
    """Tags with their attributes, and whether each is closed where it ought to be."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag


def tree(page: str) -> list[tuple[str, dict[str, str | None]]]:
    reader = _Tree()
    reader.feed(page)
    assert not reader.open
    return reader.tags


@pytest.fixture(params=[(name, language) for name in ("full", "federated") for language in LANGUAGES], ids="-".join)
def page(request):
    return render(request.getfixturevalue(request.param[0]), request.param[1])


def test_sections_stand_in_their_order_and_none_is_missing(page):
    assert re.findall(r'<section id="(\w+)"', page) == ORDER


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_was_not_asked_is_said_and_not_left_out(audited, language):
    bare = render(audited[1], language)
    assert re.findall(r'<section id="(\w+)"', bare) == ORDER
    for title in ("probes", "federation", "privacy", "mitigation"):
        section = bare.split(f'<section id="{title}"')[1].split("</section>")[0]
        said = re.search(r"<p[^>]*>([^<]+)</p>", section)
        assert said is not None, title
        assert len(said[1].split()) > 4, title


def test_the_page_says_its_language_and_is_well_formed(page):
    tags = tree(page)
    (lang,) = [attrs["lang"] for tag, attrs in tags if tag == "html"]
    assert lang in LANGUAGES
    assert [tag for tag, _ in tags].count("title") == 1


def test_headings_go_down_one_step_at_a_time(page):
    levels = [int(tag[1]) for tag, _ in tree(page) if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))


def test_pictures_say_what_they_show_and_regions_what_they_are(page):
    tags = tree(page)
    pictures = [attrs for tag, attrs in tags if tag in ("svg", "img")]
    assert len(pictures) > 10
    assert all(attrs.get("role") == "img" and attrs.get("aria-label") for attrs in pictures)
    assert all(re.search(r"\d", attrs["aria-label"]) for attrs in pictures if attrs["class"] == "interval")
    regions = [attrs for _, attrs in tags if attrs.get("role") == "region"]
    assert all(attrs.get("aria-label") for attrs in regions)
    ids = [attrs["id"] for _, attrs in tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {attrs["aria-labelledby"] for _, attrs in tags if "aria-labelledby" in attrs} <= set(ids)


def test_it_can_be_used_from_the_keyboard(page):
    tags = tree(page)
    ids = {attrs.get("id") for _, attrs in tags}
    links = [attrs["href"] for tag, attrs in tags if tag == "a"]
    assert links[0] == "#verdict"  # past the header
    assert {f"#{name}" for name in ORDER[1:]} <= set(links)
    assert all(link[1:] in ids for link in links)
    scrolled = [attrs for _, attrs in tags if "scroll" in (attrs.get("class") or "")]
    assert scrolled
    assert all(attrs.get("tabindex") == "0" for attrs in scrolled)
    assert not [attrs for _, attrs in tags if int(attrs.get("tabindex") or 0) > 0]
    style = files("koinon.fairness.report").joinpath("report.css").read_text(encoding="utf-8")
    assert ":focus-visible" in style
    assert "outline: none" not in style


def test_every_column_has_a_heading(page):
    for table in re.findall(r"<table>.*?</table>", page, flags=re.S):
        head, _, body = table.partition("<tbody>")
        columns = head.count("<th ")
        if not columns:
            continue
        assert '<th scope="col"></th>' not in re.sub(r' class="\w+"', "", head)
        for row in re.findall(r"<tr>.*?</tr>", body, flags=re.S):
            cells = len(re.findall(r"<t[hd][ >]", row)) + sum(int(n) - 1 for n in re.findall(r'colspan="(\d+)"', row))
            assert cells == columns, row[:200]
            assert '<th scope="row"' in row


def luminance(colour: str) -> float:
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_what_wcag_says_it_is():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground_by_4_5(scheme):
    """WCAG 2.2, 1.4.3 (AA); what lines and dots need is less."""
    style = files("koinon.fairness.report").joinpath("report.css").read_text(encoding="utf-8")
    block = style.split(f"color-scheme: {scheme};")[1].split("}")[0]
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block))
    assert colours.keys() >= {"paper", "card", "wash", "ink", "soft", "good", "bad", "warn", "open"}
    for text in ("ink", "soft", "good", "bad", "warn", "open"):
        for ground in ("paper", "card", "wash"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)


def test_it_is_whole_in_itself(page):
    for forbidden in ("<script", "http://", "https://", "src=", "@import", "url(", "<iframe", "<form", "onclick"):
        assert forbidden not in page
    assert "default-src 'none'" in page


def test_print_opens_what_the_screen_folds():
    style = files("koinon.fairness.report").joinpath("report.css").read_text(encoding="utf-8")
    printed = style.split("@media print")[1]
    assert "details-content" in printed
    assert "A4" in printed


def test_whatever_stands_in_the_data_is_text(full):
    evil = full.model_copy(update={"question": '<img src=x onerror="1"> & </section>', "name": "shop"})
    said = render(evil, "de")
    assert "<img" not in said
    assert "&lt;img" in said
    tree(said)


def test_the_first_page_says_who_is_served_worse_in_a_sentence(full):
    said = re.sub(r"<[^>]+>", "", render(full, "en").split('<section id="scope"')[0])
    worst = next(one for one in full.comparisons if one.verdict == "fail" and one.metric == "ndcg")
    assert f"{worst.worst} is served worse than {worst.best} by {worst.gap:.3f}" in said
    assert "0.100 is tolerated" in said


def test_results_stand_worst_first_with_people_interval_p_and_threshold(full):
    page = render(full, "en")
    section = page.split('<section id="results"')[1].split("</table>")[0]
    rows = re.findall(r"<tr>(.*?)</tr>", section.split("<tbody>")[1], flags=re.S)
    order = ["fail", "concern", "insufficient evidence", "pass"]
    places = [order.index(re.search(r'class="tag \w+">([^<]+)<', row)[1]) for row in rows]
    assert places == sorted(places)
    assert len(set(places)) > 1
    for row in rows:
        assert 'class="threshold"' in row or row.count("<td>\u2013</td>") == 4
