"""A wish in words, in four languages: limits, a query, at most one question back."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from koinon.data import Domain, Interactions
from koinon.data.tables import ITEM_SCHEMA
from koinon.errors import RecommenderError
from koinon.recommenders import Request
from koinon.recommenders.fusion.wishes import (
    ANSWERED,
    Asking,
    AskingConfig,
    CategoryJudge,
    Facts,
    WishReader,
    question_for,
)
from koinon.recommenders.fusion.wishes.question import QuestionConfig, perplexity
from koinon.recommenders.store import load, save

CATEGORIES = ("Comedy", "Horror", "Children's", "Sci-Fi", "War")


@pytest.fixture(scope="module")
def cinema() -> Domain:
    """Sixty films: five categories by turns, three languages, years from 1960 on, prices from 5 on."""
    n = 60
    category = [CATEGORIES[i % 5] for i in range(n)]
    items = pl.DataFrame(
        {
            "item_id": [f"f{i:02d}" for i in range(n)],
            "title": [f"Work {i} ({1960 + i})" for i in range(n)],
            "creator": ["Ann Lee" if i % 6 == 0 else "Bo Ek" for i in range(n)],
            "description": ["a dog runs" if i % 7 == 0 else None for i in range(n)],
            "language": [("en", "de", "fr")[i % 3] for i in range(n)],
            "categories": [[name] for name in category],
            "price": [5.0 + i if i % 10 else None for i in range(n)],
            "text": [f"{category[i].lower()} work{i}" for i in range(n)],
        },
        schema=ITEM_SCHEMA,
    )
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(40), 4).astype(np.int32)
    item = np.concatenate([rng.choice(n, 4, replace=False) for _ in range(40)]).astype(np.int32)
    return Domain("cinema", items, tuple(f"u{i}" for i in range(40)), Interactions(user, item))


@pytest.fixture(scope="module")
def reader(cinema, word_space):
    return WishReader(cinema, word_space)


@pytest.fixture(scope="module")
def asking(cinema, word_space):
    return Asking().fit(cinema, word_space, rng=np.random.default_rng(0))


def said(reader, text):
    return {str(one) for one in reader.read(text).constraints}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a comedy under 10 euros from the 90s without horror",
         {"category Comedy", "price at most 10", "year at least 1990 and at most 1999", "not category Horror"}),
        ("eine Comedy unter 10 Euro aus den 90ern ohne Horror",
         {"category Comedy", "price at most 10", "year at least 1990 and at most 1999", "not category Horror"}),
        ("un comedy à moins de 10 euros des années 90 sans horror",
         {"category Comedy", "price at most 10", "year at least 1990 and at most 1999", "not category Horror"}),
        ("un comedy por menos de 10 euros de los años 90 sin horror",
         {"category Comedy", "price at most 10", "year at least 1990 and at most 1999", "not category Horror"}),
        ("something in German, not in French", {"language de", "not language fr"}),
        ("etwas auf Deutsch", {"language de"}),
        ("quelque chose en allemand", {"language de"}),
        ("algo en alemán", {"language de"}),
        ("made after 1990", {"year at least 1991"}),
        ("nach 1990 und vor 2000", {"year at least 1991", "year at most 1999"}),
        ("depuis 1990", {"year at least 1990"}),
        ("antes de 1970", {"year at most 1969"}),
        ("between $10 and $20", {"price at least 10 and at most 20"}),
        ("zwischen 1970 und 1980", {"year at least 1970 and at most 1980"}),
        ("over 12,50 €", {"price at least 12.5"}),
        ("no war, horror or dog", {"not category War", "not category Horror", "not word dog"}),
        ("sin war ni horror", {"not category War", "not category Horror"}),
        ("not by Ann Lee", {"not creator Ann Lee"}),
        ("sci fi for children", {"category Sci-Fi", "category Children's"}),
        ("films like Work 3 (1963)", set()),
        ("a nice film for tonight", set()),
        ("a story about sin and war", {"category War"}),
        ("", set()), ("???", set()), ("🎬", set()), ("\ud800 x", set()), ("ohne", set()), ("under", set()),
        ("(((", set()), ("no " * 400, set()), ("ein " * 2000, set()), ("1" * 400, set()),
    ],
)  # fmt: skip
def test_limits_are_read_in_four_languages(reader, text, found):
    assert said(reader, text) == found


def test_a_cheap_one_is_of_the_cheapest_third(reader):
    (one,) = reader.read("something cheap").constraints
    prices = reader.facts.prices
    assert 0.3 < np.nanmean(np.where(np.isnan(prices), np.nan, prices <= one.most)) < 0.4
    assert {one.most for text in ("etwas Billiges", "pas cher", "barato") for one in reader.read(text).constraints} == {
        one.most
    }


def test_what_is_limited_is_what_is_left(cinema):
    facts = Facts(cinema)
    reader = WishReader(cinema, None)
    wish = reader.read("horror under 30 euros in German, after 1965, but no dog")
    allowed, dropped = facts.allowed(wish.constraints)
    rows = cinema.items.filter(pl.Series(allowed))
    assert not dropped
    assert rows.height > 0
    assert set(rows["language"]) == {"de"}
    assert rows["price"].max() <= 30
    assert rows["price"].null_count() == 0
    assert all("Horror" in found for found in rows["categories"])
    assert not any("dog" in (text or "") for text in rows["description"])


def test_a_limit_that_nothing_meets_is_left_out_and_named(asking):
    reply = asking.reply(Request(query="a comedy under 1 euro"), 5)
    assert len(reply.items) == 5
    assert [str(one) for one in reply.dropped] == ["price at most 1"]
    assert {asking.reader.facts.categories[one.item] for one in reply.items} == {("Comedy",)}


def test_what_is_wanted_leads_and_what_is_not_is_gone(asking):
    listed = asking.recommend([Request(query="comedy"), Request(query="no comedy, no horror, no war")], 20)
    found = [{asking.reader.facts.categories[one.item] for one in row} for row in listed]
    assert found == [{("Comedy",)}, {("Children's",), ("Sci-Fi",)}]
    scores = asking.score([Request(query="comedy")])
    assert np.isfinite(scores).all()
    mask = np.array([found == ("Comedy",) for found in asking.reader.facts.categories])
    assert scores[0][mask].min() > scores[0][~mask].max()
    np.testing.assert_array_equal(asking.score([Request(query="comedy")], np.array([3, 5])), scores[:, [3, 5]])


def test_a_history_colours_what_a_wish_allows(asking, cinema):
    history = cinema.history(3)
    with_it = asking.reply(Request(history=history, query="comedy"), 10)
    without = asking.reply(Request(query="comedy"), 10)
    assert {one.item for one in with_it.items}.isdisjoint(history.tolist())
    assert [one.item for one in with_it.items] != [one.item for one in without.items]


def test_without_words_it_is_its_base(asking):
    request = Request(history=np.array([1, 7], dtype=np.int32))
    np.testing.assert_array_equal(asking.score([request]), asking.base.score([request]))
    reply = asking.reply(request, 3)
    assert (reply.wish, reply.question) == (None, None)
    assert len(reply.items) == 3


@pytest.mark.parametrize(
    ("query", "begins"),
    [("something nice", "Which"), ("etwas Schönes für mich", "Woran"), ("je cherche quelque chose", "À quoi"),
     ("busco algo para mi", "¿En cuál")],
)  # fmt: skip
def test_an_open_wish_is_asked_about_once_and_never_twice(asking, query, begins):
    reply = asking.reply(Request(query=query), 5)
    question = reply.question
    assert question is not None
    assert question.about == "category"
    assert question.text.startswith(begins)
    assert question.perplexity >= 4
    for answer in (question.options[0], "egal", "whatever", ""):
        again = asking.reply(Request(query=query, context={ANSWERED: answer}), 5)
        assert again.question is None
    settled = asking.reply(Request(query=query, context={ANSWERED: question.options[0]}), 5)
    assert {asking.reader.facts.categories[one.item] for one in settled.items} == {(question.options[0],)}


def test_a_clear_wish_is_not_asked_about(asking):
    assert asking.reply(Request(query="horror in German"), 5).question is None
    language = asking.reply(Request(query="horror"), 5).question
    assert (language.about, set(language.options)) == ("language", {"en", "de", "fr"})


def test_the_question_is_told_by_entropy(cinema, reader):
    wish = reader.read("something")
    facts = reader.facts
    same = [i for i in range(60) if i % 15 == 0]  # one category, one language
    assert question_for(facts, wish, same) is None
    two = [i for i in range(60) if i % 5 < 2 and i % 3 == 0]
    assert question_for(facts, wish, two) is None
    assert question_for(facts, wish, two, QuestionConfig(open=1.9)).options == ("Comedy", "Horror")
    assert question_for(facts, wish, []) is None
    assert perplexity([1, 1, 1, 1]) == pytest.approx(4)
    assert perplexity([5]) == pytest.approx(1)
    assert perplexity([]) == 0


class Naming:
    """Likelihoods of a model that takes every wish for one for children."""

    def gains(self, wish, names):
        return np.array([5.0 if name == "Children's" else 0.0 for name in names])


def test_a_language_model_chooses_where_no_name_is_said(cinema, word_space, model):
    reader = WishReader(cinema, word_space, judge=Naming())
    assert said(reader, "something for the little ones") == {"category Children's"}
    assert said(reader, "horror for the little ones") == {"category Horror"}
    gains = CategoryJudge(model).gains("something for the little ones", ["Comedy", "War"])
    assert gains.shape == (2,)
    assert np.isfinite(gains).all()
    doubled = CategoryJudge(model).gains("something for the little ones", ["War", "Comedy"])
    np.testing.assert_allclose(gains, doubled[::-1], atol=1e-4)


def test_a_catalogue_without_categories_years_or_prices_has_fewer_limits(cinema, word_space):
    bare = cinema.items.with_columns(
        categories=pl.lit([], dtype=pl.List(pl.String)),
        price=pl.lit(None, dtype=pl.Float64),
        title=pl.col("title").str.replace(r" \(.*", ""),
    )
    reader = WishReader(replace(cinema, items=bare), word_space)
    assert said(reader, "a comedy under 10 euros from the 90s, not by Ann Lee, after 1990, cheap") == {
        "not creator Ann Lee"
    }


def test_without_a_space_names_and_rules_still_serve(cinema):
    assert said(WishReader(cinema, None), "comedy, no horror, under 20 euros") == {
        "category Comedy", "not category Horror", "price at most 20",
    }  # fmt: skip


def test_it_comes_back_as_it_was_kept(asking, cinema, word_space, tmp_path):
    save(asking, tmp_path, cinema, word_space)
    back = load(tmp_path, cinema, word_space)
    asked = [Request(query="comedy in German"), Request(history=np.array([3], dtype=np.int32))]
    np.testing.assert_array_equal(back.score(asked), asking.score(asked))


def test_what_is_missing_is_said(cinema):
    with pytest.raises(RecommenderError, match="K404"):
        Asking().fit(cinema, None, rng=np.random.default_rng(0))
    with pytest.raises(RecommenderError, match="K400"):
        Asking().score([Request(query="comedy")])
    for base in ("asking", "nothing"):
        with pytest.raises(RecommenderError, match="K488"):
            Asking(AskingConfig(base=base))
