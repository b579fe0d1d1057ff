"""What a deployed recommender answers, to whom, and why."""

from __future__ import annotations

import copy
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from koinon.clients.serving import Ask, Shop, carried_history, find_partner
from koinon.clients.words import Words, WordWeights
from koinon.errors import ConfigError, KoinonError
from koinon.recommenders.protocol import Request
from koinon.space import open_space


def _titles(shop: Shop, **asked: object) -> list[str]:
    return [item.title for item in shop.answer(Ask.model_validate(asked)).items]


def test_a_known_user_gets_unseen_items_of_their_taste_with_reasons_from_their_history(shop: Shop):
    user = "reader-3"
    seen = {shop.domain.items["title"][int(item)] for item in shop.known.history(shop.domain.user_index[user])}
    answer = shop.answer(Ask(user=user, k=3))
    assert not seen & {item.title for item in answer.items}
    assert all(item.item_id in {f"isbn-{n}" for n in range(10)} for item in answer.items)
    assert any(title.rstrip(".") in reason for title in seen for reason in answer.items[0].reasons)
    assert answer.basis == "5 items of the user's history here"


def test_history_is_everything_known_now_also_what_was_held_out_of_training(shop: Shop):
    rows = range(shop.domain.n_users)
    assert all(len(shop.known.history(row)) == 5 for row in rows)
    assert any(len(shop.domain.history(row)) < 5 for row in rows)


@pytest.mark.parametrize(
    ("typed", "how", "found"),
    [
        ("Momo", "title", "Momo"),
        ("momo!", "title", "Momo"),
        ("Der Name der Rose", "title", "Der Name der Rose (Roman)"),
        ("Das Parfum", "title", "Das Parfum: Die Geschichte eines Mörders"),
        ("Momo Michael Ende", "title", "Momo"),
        ("Die unendlche Geschichte", "spelling", "Die unendliche Geschichte"),
        ("Harry Potter and the Philosopher's Stone", "meaning", "Harry Potter und der Stein der Weisen"),
        ("The Name of the Rose", "meaning", "Der Name der Rose (Roman)"),
        ("Steuerrecht für Anfänger", "text", None),
    ],
)
def test_a_typed_title_is_understood_and_it_is_said_how(shop: Shop, typed: str, how: str, found: str | None):
    (reading,) = shop.answer(Ask(liked=(typed,))).understood
    assert (reading.how, reading.title) == (how, found)
    assert 0.0 <= reading.similarity <= 1.0


def test_liked_titles_of_the_catalogue_count_as_history_and_are_not_recommended_back(shop: Shop):
    liked = ("Momo", "Harry Potter and the Philosopher's Stone")
    answer = shop.answer(Ask(liked=liked, k=5))
    assert "Momo" not in {item.title for item in answer.items}
    assert {item.item_id for item in answer.items} <= {f"isbn-{n}" for n in range(10)}


def test_another_edition_of_a_work_already_had_is_not_recommended_and_none_twice(shop: Shop):
    # "Der Hobbit." and "Hobbit" differ by article and punctuation alone
    assert "Der Hobbit." not in _titles(shop, liked=("Hobbit",), k=20)
    assert "Momo: ein Märchenroman" not in _titles(shop, liked=("Momo",), k=20)


def test_what_is_not_in_the_catalogue_speaks_through_its_words_and_its_author(shop: Shop):
    answer = shop.answer(Ask(liked=("Hercule Poirot's Christmas. Agatha Christie",), k=2))
    assert {item.creator for item in answer.items} == {"Agatha Christie"}
    assert "as is “Hercule Poirot's Christmas. Agatha Christie”" in " ".join(answer.items[0].reasons)


def test_a_wish_in_any_language_is_answered_by_meaning_and_says_so(shop: Shop):
    for wish in ("a story about a wizard's school", "une histoire de magicien"):
        answer = shop.answer(Ask(query=wish, k=4))
        assert {item.item_id for item in answer.items} & {"isbn-6", "isbn-7", "isbn-8"}
    assert answer.basis == "the wish in words"


def test_a_wish_leads_and_a_history_only_colours_it(shop: Shop):
    plain = _titles(shop, query="Mord im Zug", k=3)
    assert plain[0] == "Mord im Orientexpress"
    assert _titles(shop, query="Mord im Zug", user="reader-3", k=3)[0] == "Mord im Orientexpress"


def test_items_nobody_has_taken_can_be_recommended(shop: Shop):
    cold = np.flatnonzero(shop.domain.item_counts == 0)
    assert len(cold)
    for item in cold.tolist():
        title = shop.domain.items["title"][item]
        assert _titles(shop, query=title, k=1) == [title]


def test_a_reader_from_abroad_brings_their_history_along(shop: Shop, other_shop: Path):
    carried = carried_history(other_shop, "anna")
    assert carried == (
        "Faceless Killers. Henning Mankell",
        "The Fifth Woman. Henning Mankell",
        "Mord im Orientexpress. Agatha Christie",
    )
    answer = shop.answer(Ask(user="anna", carried=carried, k=4))
    assert "Henning Mankell" in {item.creator for item in answer.items}
    # the same edition in both shops is found in the catalogue and not recommended back
    assert "Mord im Orientexpress" not in {item.title for item in answer.items}
    assert answer.basis == "1 title found in the catalogue, 2 texts carried over from elsewhere, no history here"


def test_the_same_question_has_the_same_answer(shop: Shop, bookshop: Path):
    ask = Ask(user="reader-50", liked=("Momo", "Sturmhöhe"), query="etwas Spannendes")
    assert shop.answer(ask) == shop.answer(ask) == Shop.open(bookshop).answer(ask)


def test_no_more_than_the_catalogue_holds_and_everything_has_a_reason(shop: Shop):
    answer = shop.answer(Ask(user="reader-1", k=100))
    assert 0 < len(answer.items) <= shop.domain.n_items - 5
    assert [item.rank for item in answer.items] == list(range(1, len(answer.items) + 1))
    assert all(item.reasons for item in answer.items)
    assert all(a.score >= b.score for a, b in zip(answer.items, answer.items[1:], strict=False))


def test_what_people_type_is_not_written_to_the_cache(shop: Shop):
    secret = "a diary of reader-7 nobody should keep"
    shop.answer(Ask(liked=(secret,), query=secret))
    assert open_space().missing([secret]) == [secret]


def test_no_user_id_stands_in_an_answer_or_an_error(shop: Shop):
    assert "reader-3" not in shop.answer(Ask(user="reader-3")).model_dump_json()
    with pytest.raises(KoinonError) as caught:
        shop.answer(Ask(user="somebody-4711"))
    assert "4711" not in str(caught.value)


@pytest.mark.parametrize(("asked", "code"), [({}, "K452"), ({"user": "nobody"}, "K450")])
def test_what_cannot_be_answered_is_one_clear_error(shop: Shop, asked: dict[str, str], code: str):
    with pytest.raises(KoinonError) as caught:
        shop.answer(Ask.model_validate(asked))
    assert caught.value.code == code
    assert caught.value.remedy


@pytest.mark.parametrize(
    "asked", [{"k": 0}, {"k": 101}, {"liked": [""]}, {"liked": ["x"] * 101}, {"query": "  "}, {"usr": "reader-1"}]
)
def test_a_request_out_of_range_is_refused(asked: dict[str, object]):
    with pytest.raises(ValidationError):
        Ask.model_validate(asked)


def test_a_partner_is_found_by_its_folder_or_within_a_demonstration(bookshop: Path):
    demo = bookshop.parent.parent
    assert find_partner(bookshop) == find_partner(demo) == find_partner(demo, "buchladen") == bookshop


@pytest.mark.parametrize(
    ("where", "partner", "code"), [("empty", None, "K120"), ("demo", "nobody", "K121"), ("shop", "nobody", "K121")]
)
def test_a_partner_that_is_not_there_is_named(
    tmp_path: Path, bookshop: Path, where: str, partner: str | None, code: str
):
    folder = {"empty": tmp_path, "demo": bookshop.parent.parent, "shop": bookshop}[where]
    with pytest.raises(ConfigError) as caught:
        find_partner(folder, partner)
    assert caught.value.code == code


def test_several_partners_must_be_told_apart(tmp_path: Path, bookshop: Path):
    for name in ("a", "b"):
        shutil.copytree(bookshop, tmp_path / name)
    with pytest.raises(ConfigError, match="a, b") as caught:
        find_partner(tmp_path)
    assert caught.value.code == "K121"


def test_a_folder_without_a_deployed_model_says_what_to_run(tmp_path: Path, bookshop: Path):
    folder = shutil.copytree(bookshop, tmp_path / "shop")
    (folder / "models" / "deployed.json").write_text("{}")
    with pytest.raises(KoinonError, match="damaged") as caught:
        Shop.open(folder)
    assert caught.value.code == "K451"
    shutil.rmtree(folder / "models")
    with pytest.raises(KoinonError, match="no deployed model") as caught:
        Shop.open(folder)
    assert caught.value.code == "K451"


def test_a_catalogue_that_has_changed_since_is_refused(tmp_path: Path, bookshop: Path):
    folder = shutil.copytree(bookshop, tmp_path / "shop")
    deployed = json.loads((folder / "models" / "deployed.json").read_text())
    deployed["split"]["minimum_item_events"] = 20
    (folder / "models" / "deployed.json").write_text(json.dumps(deployed))
    with pytest.raises(KoinonError) as caught:
        Shop.open(folder)
    assert caught.value.code == "K454"


def test_without_a_space_titles_of_the_catalogue_still_work_and_words_are_refused(shop: Shop):
    bare = Shop(shop.name, shop.arm, shop.domain, shop.known.events, shop.recommender, None)
    assert bare.answer(Ask(liked=("Momo",))).items
    with pytest.raises(KoinonError) as caught:
        bare.answer(Ask(query="a wizard"))
    assert caught.value.code == "K453"


def test_words_weigh_as_they_say(shop: Shop):
    assert shop.words is not None
    only_popular = Words(shop.domain, shop.words.space, WordWeights(carried_popularity=1e6))
    ranked = np.argsort(-only_popular.combine(None, (), ("anything",), None), kind="stable")
    assert shop.domain.item_counts[ranked[0]] == shop.domain.item_counts.max()
    named = shop.words.named_creators(["Momo. Michael Ende", "by michael ende", "Ende"])
    assert named[shop.domain.item_index["isbn-4"]] == 2
    assert named[shop.domain.item_index["isbn-6"]] == 0


def test_nothing_but_a_user_without_history_gets_what_is_popular(shop: Shop):
    assert shop.words is not None
    scores = shop.words.combine(None, (), (), None)
    assert np.array_equal(scores, shop.words.popularity)


def test_a_recommender_is_told_when_the_history_happened_what_it_was_and_when_it_is_asked(shop: Shop):
    asked: list[Request] = []

    class Listening(type(shop.recommender)):  # type: ignore[misc]
        def score(self, requests, candidates=None):  # type: ignore[no-untyped-def]
            asked.extend(requests)
            return super().score(requests, candidates)

    listening = copy.copy(shop.recommender)
    listening.__class__ = Listening
    events = shop.known.events
    timed = replace(events, time=np.arange(len(events), dtype=np.int64) * 60_000)
    before = time.time_ns() // 1_000_000
    for known in (timed, events):
        Shop(shop.name, shop.arm, shop.domain, known, listening, shop.space).answer(
            Ask(user="reader-3", liked=("Das Parfum",))
        )
    told, untimed = asked
    row = shop.domain.user_index["reader-3"]
    assert told.times is not None
    assert told.times[:-1].tolist() == timed.time[timed.user == row].tolist()
    assert len(told.times) == len(told.history)
    assert told.time is not None
    assert before <= told.time == told.times[-1]
    assert untimed.times is None
    assert told.marks is not None
    assert [told.marks.kinds[kind] for kind in told.marks.kind[:-1]] == ["rating"] * 5
    assert told.marks.weight[:-1].tolist() == events.marks.weight[events.user == row].tolist()
    assert (told.marks.kind[-1], bool(np.isnan(told.marks.weight[-1]))) == (-1, True)


def test_a_wish_limits_the_list_and_the_answer_says_how_it_was_understood(shop: Shop):
    answer = shop.answer(Ask(query="ein Krimi, aber nicht von Henning Mankell", k=20))
    assert "Henning Mankell" not in {item.creator for item in answer.items}
    assert answer.wish is not None
    assert [str(limit) for limit in answer.wish.limits] == ["not creator Henning Mankell"]
    assert answer.wish.question is None
    assert shop.answer(Ask(liked=("Momo",))).wish is None


def test_a_limit_that_nothing_meets_is_named_and_left_out(shop: Shop):
    answer = shop.answer(Ask(query="something not in German", k=3))
    assert len(answer.items) == 3
    assert answer.wish is not None
    assert [(limit.kind, limit.wanted, limit.kept) for limit in answer.wish.limits] == [("language", False, False)]
    assert str(answer.wish.limits[0]) == "not language de (nothing meets it)"


def test_a_question_comes_back_once_where_it_was_wanted(shop: Shop):
    genres = ["Fantasy", "Crime", "Drama", "Humour", "Travel"]
    items = shop.domain.items.with_columns(categories=pl.Series([[genres[n % 5]] for n in range(shop.domain.n_items)]))
    open_shop = Shop(
        "books", "arm", replace(shop.domain, items=items), shop.domain.events, shop.recommender, shop.space
    )
    ask = Ask(query="etwas Schönes", clarify=True, k=3)
    wish = open_shop.answer(ask).wish
    assert wish is not None
    assert wish.question is not None
    assert wish.question.startswith("Woran denken Sie")
    assert open_shop.answer(Ask(query="etwas Schönes", k=3)).wish.question is None
    for said in (wish.options[0], "egal"):
        again = open_shop.answer(ask.model_copy(update={"answered": said}))
        assert again.wish.question is None
    settled = open_shop.answer(ask.model_copy(update={"answered": wish.options[0]}))
    chosen = items.filter(pl.col("item_id").is_in([item.item_id for item in settled.items]))
    assert set(chosen["categories"].explode()) == {wish.options[0]}
