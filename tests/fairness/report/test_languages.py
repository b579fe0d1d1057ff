"""The report in two languages: the same keys, the same facts, and none of one language in the other."""

from __future__ import annotations

import ast
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from koinon.fairness.metrics import METRICS
from koinon.fairness.mitigation.plan import Remedy
from koinon.fairness.report import render
from koinon.fairness.words import LANGUAGES, words_in

ROOT = Path(__file__).parents[3] / "fairness" / "koinon" / "fairness"

ALIKE = re.compile(  # what both languages write alike
    r"NDCG(@\d+)?|Jaccard|SERP\*|PRAG\*|EE-[LDR]|MRR@\d+|p|Encoder|Partner|Median|Gini|"
    r"Koinon [\d.]+|fairlearn|numpy|scipy|polars|koinon audit .*"
)


class _Texts(HTMLParser):
    """Every piece of text that somebody reads or hears: text, labels of regions and pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inside: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag in ("style", "pre"):
            self.inside.append(tag)
        self.found += [value for name, value in attrs if name in ("aria-label", "title", "alt") and value]

    def handle_endtag(self, tag):
        if self.inside and self.inside[-1] == tag:
            self.inside.pop()

    def handle_data(self, data):
        if not self.inside and data.strip():
            self.found.append(data.strip())


def texts(page: str) -> list[str]:
    reader = _Texts()
    reader.feed(page)
    return reader.found


def test_every_key_stands_in_every_language_with_the_same_places():
    english = words_in("en").texts
    for language in LANGUAGES:
        other = words_in(language).texts
        assert other.keys() == english.keys()
        for key, text in english.items():
            assert set(re.findall(r"\{(\w+)\}", text)) == set(re.findall(r"\{(\w+)\}", other[key])), key


@pytest.fixture(params=["full", "federated"])
def results(request):
    return request.getfixturevalue(request.param)


def own_words(results) -> set[str]:
    """Names that are the auditor's and the data's, not the report's."""
    plan = results.plan
    names = {plan["name"], plan["question"], plan["data"]["basis"], *plan["system"]["settings"]}
    names |= {group["name"] for group in plan["groups"]} | {value for g in plan["groups"] for value in g["values"]}
    names |= {label for group in results.groups for cell in group.cells for label in cell.label.split(" × ")}
    names |= {one.name for one in results.sources} | {one.label for p in results.providers for one in p.classes}
    return {word for name in names for word in re.findall(r"[^\W\d_]+", str(name))}


def test_no_english_is_left_in_the_german_page(results):
    english = {text for text in texts(render(results, "en")) if re.search(r"[A-Za-z]{3}", text)}
    mine = own_words(results) | {
        "NDCG",
        "young",
        "alpha",
        "beta",
        "taste",
        "age",
        "activity",
        "gender",
        "shop",
        "shops",
        "Soy",
        "Ich",
    }
    left = []
    for text in texts(render(results, "de")):
        if text in english and not ALIKE.fullmatch(text):
            words = {word for word in re.findall(r"[^\W\d_]+", text) if len(word) > 2}
            if words - mine and not re.fullmatch(r"[0-9a-fA-F]{40,}|[A-Za-z0-9+/=_-]{40,}", text):
                left.append(text)
    assert not set(left)


def test_no_sentence_of_the_english_words_stands_in_the_german_page(results):
    page = " ".join(texts(render(results, "de")))
    sentences = [text for text in words_in("en").texts.values() if len(text) > 20 and "{" not in text]
    assert len(sentences) > 100
    assert not [text for text in sentences if text in page]


def test_both_pages_hold_the_same_figures(results):
    def figures(language):
        page = re.sub(r"<style.*?</style>|<svg.*?</svg>", "", render(results, language), flags=re.S)
        found = re.findall(r"\d[\d.,]*", unescape(page))
        return sorted(re.sub(r"[.,]", "", one) for one in found)

    assert figures("en") == figures("de")


def test_german_numbers_have_commas(results):
    w = words_in("de")
    assert (w.number(-1.5, 2), w.percent(0.125), w.count(12345), w.p(0.0001)) == (
        "\u22121,50", "12,5\u202f%", "12.345", "< 0,001",
    )  # fmt: skip
    assert words_in("en").count(12345) == "12,345"
    assert words_in("en").number(-0.0001) == "0.000"


def test_a_missing_figure_is_a_dash_in_every_language():
    for language in LANGUAGES:
        w = words_in(language)
        assert {w.number(None), w.percent(None), w.p(None), w.span(None, 1.0)} == {"\u2013"}


@pytest.mark.parametrize(
    ("kind", "english", "german"),
    [
        ("label", "fewer than 7", "weniger als 7"),
        ("label", "young × 30 and more", "young × 30 und mehr"),
        ("label", "small to medium", "small to medium"),
        ("class", "long tail", "langes Ende"),
        ("label", "head", "head"),
        ("how", "declared attribute age; merged: under 25", "angegebenes Merkmal age; zusammengefasst: under 25"),
        ("how", "age × sex, every combination", "age × sex, jede Verbindung"),
        ("excluded", "too few events", "zu wenige Ereignisse"),
    ],
)
def test_what_results_say_is_said_again_and_names_stay(kind, english, german):
    assert words_in("de").said(kind, english) == german
    assert words_in("en").said(kind, english) == english


def said_by(file: str, function: str | None = None) -> list[str]:
    """Sentences in a module's code, but for its documentation and its errors."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    if function is not None:
        tree = next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == function)
    documented = {ast.get_docstring(node, clean=False) for node in ast.walk(tree)
                  if isinstance(node, ast.FunctionDef | ast.Module | ast.ClassDef)}  # fmt: skip
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [text for text in texts if text not in documented and " " in text.strip() and text.endswith(".")]


def test_every_reason_that_a_verdict_gives_can_be_translated():
    reasons = {text for key, text in words_in("en").texts.items() if key.startswith("said.reason.")}
    found = [text for text in said_by("verdicts.py", "judge") if not text.startswith(" ")]
    assert len(found) >= 4
    assert all(any(text in reason for reason in reasons) for text in found)
    w = words_in("de")
    assert all(w.said("reason", reason) != reason for reason in reasons)


def test_every_metric_remedy_and_verdict_has_its_words():
    texts_ = words_in("en").texts
    for name in METRICS:
        assert {f"metric.{name}.title", f"metric.{name}.meaning"} <= texts_.keys()
    for name in Remedy.__args__:
        assert {f"remedy.{name}.title", f"remedy.{name}.meaning"} <= texts_.keys()


def test_no_text_is_there_for_nothing():
    used = "".join(path.read_text(encoding="utf-8") for path in ROOT.rglob("*") if path.suffix in (".py", ".j2"))
    dynamic = ("said.", "metric.", "remedy.", "verdict.", "number.", "probes.", "scope.", "results.by_", "limits.",
               "glossary.", "providers.divided.", "privacy.", "method.", "draft.")  # fmt: skip
    titles = re.compile(r"\w+\.title")
    unused = [key for key in words_in("en").texts
              if key not in used and not key.startswith(dynamic) and not titles.fullmatch(key)]  # fmt: skip
    assert not unused
