"""Wishes in words on ml-100k: what of them is understood, in four languages, and what that brings to the list.

    python -m bench.fusion_wishes read
    python -m bench.fusion_wishes rank --users 300
    python -m bench.fusion_wishes read --model 'gguf:SmolLM2-135M-Instruct.Q4_1.gguf'

`read`: wishes made of a genre in a language's own word, a decade and a genre that is not wanted; how often exactly that
was understood. The words were written down before the rules' thresholds were looked at on them; those were chosen on
others. `rank`: the last event of everybody held out, EASE tuned for that protocol; a simulated person says one genre of
the film that they saw next, or that and its decade, in a language by turns. What the whole list gains by the query
vector alone, by the limits alone and by both, and what one question back gains where the wish says nothing: paired over
people. A person who knows what they want says more than a history does; the gain is of the interaction, not of a model.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from itertools import product

import numpy as np

from koinon.data import SplitConfig, make_split
from koinon.data.public import get
from koinon.evaluation.metrics import METRICS, place, ranking_metrics
from koinon.evaluation.protocol import requests_of
from koinon.evaluation.significance import bootstrap_mean, paired_gain
from koinon.recommenders.conventional import EASE, EaseConfig
from koinon.recommenders.fusion.wishes import ANSWERED, Asking, AskingConfig, CategoryJudge, WishReader
from koinon.recommenders.ranking import history_matrix
from koinon.recommenders.training import known_before_test
from koinon.space import open_space

BASE = EaseConfig(popularity_weight=0.01, recency=0.9, item_power=0.25)
"""Tuned by NDCG@10 on validation: bench/configs/baselines/ml-100k-last.toml."""
GENRES: dict[str, dict[str, str]] = {
    "en": {"Comedy": "hilarious", "Horror": "horror", "War": "war", "Romance": "love", "Sci-Fi": "science fiction",
           "Animation": "animated", "Children's": "kids", "Adventure": "adventure", "Documentary": "documentary",
           "Crime": "gangsters", "Musical": "musical", "Thriller": "thriller", "Fantasy": "fairy tale",
           "Western": "cowboys"},
    "de": {"Comedy": "Humor", "Horror": "Grusel", "War": "Krieg", "Romance": "Liebe", "Sci-Fi": "Zukunft",
           "Animation": "Trickfilm", "Children's": "Kindern", "Adventure": "Abenteuer", "Documentary": "Dokumentation",
           "Crime": "Verbrechen", "Musical": "Musicals", "Thriller": "Psychothriller", "Fantasy": "Märchen",
           "Western": "Wildwest"},
    "fr": {"Comedy": "humour", "Horror": "épouvante", "War": "guerre", "Romance": "amour", "Sci-Fi": "science-fiction",
           "Animation": "animation", "Children's": "enfants", "Adventure": "aventure", "Documentary": "documentaires",
           "Crime": "crimes", "Musical": "comédie musicale", "Thriller": "thriller", "Fantasy": "fantastique",
           "Western": "cow-boys"},
    "es": {"Comedy": "humor", "Horror": "miedo", "War": "guerra", "Romance": "romance", "Sci-Fi": "ciencia ficción",
           "Animation": "animación", "Children's": "niños", "Adventure": "aventura", "Documentary": "documentales",
           "Crime": "crímenes", "Musical": "musical", "Thriller": "suspenso", "Fantasy": "fantasía",
           "Western": "vaqueros"},
}  # fmt: skip
WISHES: dict[str, tuple[str, str, str, str]] = {
    "en": ("I am looking for a film with {wanted}", " from the {decade}s", ", without {unwanted}", "a good film"),
    "de": ("Ich suche einen Film mit {wanted}", " aus den {decade}ern", ", ohne {unwanted}", "ein guter Film"),
    "fr": ("Je cherche un film avec {wanted}", " des années {decade}", ", sans {unwanted}", "un bon film"),
    "es": ("Busco una película con {wanted}", " de los años {decade}", ", sin {unwanted}", "una buena película"),
}


def read(options: argparse.Namespace) -> None:
    """Share of wishes understood exactly, by part."""
    tables = get("ml-100k")
    domain = make_split("ml-100k", tables, SplitConfig(protocol="leave-last-out", minimum_item_events=1)).train
    judge = None
    if options.model:
        from koinon.space.language import open_language_model

        judge = CategoryJudge(open_language_model(options.model))
    readers = {"rules and names": WishReader(domain, None), "with the space": WishReader(domain, open_space())}
    if judge is not None:
        readers["with a language model"] = WishReader(domain, open_space(), judge=judge)
    for name, reader in readers.items():
        for language, genres in GENRES.items():
            begin, decade, without, _ = WISHES[language]
            right = {"wanted": [], "unwanted": [], "decade": [], "nothing else": []}  # type: ignore[var-annotated]
            pairs = [(a, b) for a, b in product(genres, genres) if a != b]
            rng = np.random.default_rng(0)
            for row in rng.permutation(len(pairs))[: options.users]:
                wanted, unwanted = pairs[row]
                typed = begin.format(wanted=genres[wanted]) + decade.format(decade=80)
                wish = reader.read(typed + without.format(unwanted=genres[unwanted]))
                found = {(one.kind, one.wanted, one.value, one.least, one.most) for one in wish.constraints}
                expected = {
                    "wanted": ("category", True, wanted, None, None),
                    "unwanted": ("category", False, unwanted, None, None),
                    "decade": ("year", True, None, 1980.0, 1989.0),
                }
                for part, one in expected.items():
                    right[part].append(one in found)
                right["nothing else"].append(not found - set(expected.values()))
            said = ", ".join(f"{part} {np.mean(values):.2f}" for part, values in right.items())
            print(f"{name:22} {language}: {said} ({len(right['wanted'])} wishes)", flush=True)


def rank(options: argparse.Namespace) -> None:
    """NDCG@10 of test people by history alone, and by what a simulated wish adds."""
    config = SplitConfig(protocol="leave-last-out", cold_items=0.0, minimum_item_events=1)
    split = make_split("ml-100k", get("ml-100k"), config)
    domain, space, test = known_before_test(split), open_space(), split.test
    base = EASE(BASE).fit(domain, None, rng=np.random.default_rng(0))
    asking = Asking(AskingConfig(base="ease"), base=base).adopt(domain, space)
    facts = asking.reader.facts
    rng = np.random.default_rng(options.seed)
    rows = rng.permutation(np.flatnonzero(test.main))[: options.users]
    asked = requests_of(test, rows)
    targets = np.array([int(test.targets(int(row))[0]) for row in rows])
    seen = history_matrix(asked, domain.n_items).nonzero()
    lists: dict[str, np.ndarray] = {"history alone": base.score(asked)}
    genre, dated, vague = [], [], []
    for number, target in enumerate(targets):
        language = list(WISHES)[number % 4]
        begin, decade, _, nothing = WISHES[language]
        known = [name for name in facts.categories[target] if name in GENRES[language]]
        said = begin.format(wanted=GENRES[language][known[int(rng.integers(len(known)))]]) if known else nothing
        year = facts.years[target]
        genre.append(said)
        dated.append(said if np.isnan(year) else said + decade.format(decade=int(year) // 10 % 10 * 10))
        vague.append(nothing)
    for name, words in (("a genre", genre), ("a genre and a decade", dated)):
        requests = [replace(one, query=text) for one, text in zip(asked, words, strict=True)]
        lists[f"{name}: both"] = asking.score(requests)
        lists[f"{name}: limits alone"] = np.stack([limits_alone(asking, one, base) for one in requests])
        lists[f"{name}: vector alone"] = np.stack([vector_alone(asking, one, base) for one in requests])
    requests, questions = [replace(one, query=text) for one, text in zip(asked, vague, strict=True)], 0
    answered = []
    for one, target in zip(requests, targets, strict=True):
        question = asking.reply(one, 10).question
        questions += question is not None
        options_named = () if question is None else question.options
        fits = [name for name in options_named if name in facts.categories[target]]
        answered.append(replace(one, context={ANSWERED: fits[0]} if fits else {ANSWERED: "-"}))
    lists["nothing said"] = asking.score(requests)
    lists["nothing said, one question back"] = asking.score(answered)
    hits = sum(one.context[ANSWERED] != "-" for one in answered)
    print(f"{len(rows)} people; {questions} asked back, {hits} of them could name one of the options")
    column = METRICS.index("ndcg")
    values = {}
    for name, scores in lists.items():
        scores = np.array(scores, dtype=np.float32)
        scores[seen] = -np.inf
        placed = place(scores, np.arange(len(rows)), targets.astype(np.int32), 10)
        values[name] = ranking_metrics(placed, np.arange(len(rows)), len(rows), 10)[:, column]
    for name, found in values.items():
        mean, gain = bootstrap_mean(found, seed=options.seed), paired_gain(found, values["history alone"])
        print(
            f"{name:34} {mean.mean:.4f} ({mean.lo:.4f} to {mean.hi:.4f}), gain {gain.gain:+.4f} "
            f"({gain.lo:+.4f} to {gain.hi:+.4f}, p {gain.p:.3f})"
        )


def limits_alone(asking: Asking, request, base: EASE) -> np.ndarray:  # type: ignore[no-untyped-def]
    """The base's order within the wish's limits."""
    from koinon.recommenders.fusion.wishes import limited

    wish = asking.understand(request)
    assert wish is not None
    allowed, _ = asking.reader.facts.allowed(wish.constraints)
    return limited(base.score([replace(request, query=None)])[0], allowed)


def vector_alone(asking: Asking, request, base: EASE) -> np.ndarray:  # type: ignore[no-untyped-def]
    """The query vector beside the base's scores, no limits."""
    wish = asking.understand(request)
    assert wish is not None
    return asking._wished(base.score([replace(request, query=None)])[0], request, replace(wish, text=request.query))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["read", "rank"])
    parser.add_argument("--model", help="read: a language model that chooses categories")
    parser.add_argument("--users", type=int, default=180, help="people; read: wishes in each language")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    {"read": read, "rank": rank}[options.what](options)


if __name__ == "__main__":
    main()
