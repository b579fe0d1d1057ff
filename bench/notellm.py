"""NoteLLM: item-to-item recall and cold items over the frozen encoders, languages, speed against sentence-transformers.

    python -m bench.notellm tune    --dataset office --bench-data DIR --config FILE --out DIR
    python -m bench.notellm measure --dataset office --bench-data DIR --frozen minilm-english --tuned DIR [--rows test]
    python -m bench.notellm languages --frozen minilm-english,use-multilingual --tuned DIR
    python -m bench.notellm speed   --base minilm-english --state DIR [--sentence-transformers PYTHON]

Data sets: ``office`` (titles and descriptions; from ``--bench-data``), ``books`` (English Book-Crossing, capped). One
event of a person is the test, one the validation, a twentieth of the catalogue has no training events. ``measure``
reads validation unless it is told otherwise. *start* is the untrained network: the projection on principal axes alone.
"""  # fmt: skip

from __future__ import annotations

import argparse
import ast
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.sparse import csr_matrix

from bench.federated_hstu import further
from koinon.data import EvaluationSet, Split, SplitConfig, Tables, make_split
from koinon.data.building import item_table
from koinon.data.public import cap_tables, get
from koinon.data.public.bookcrossing import cut_by_language
from koinon.evaluation import evaluate
from koinon.evaluation.significance import bootstrap_mean, paired_gain
from koinon.recommenders.conventional import SemanticEASE
from koinon.recommenders.protocol import Request
from koinon.recommenders.serial.notellm import ItemPairs, TuneConfig, co_occurrences, held_out_pairs, item_recall
from koinon.recommenders.serial.notellm import tune_space as tune
from koinon.recommenders.serial.notellm.recall import by_user
from koinon.space import open_encoder, open_space
from koinon.space.tuned import network_over, read_tuned
from koinon.studies.paradigms.data import rows_of, sample_rows

CUTS = (10, 100)
SPLIT = SplitConfig(protocol="holdout", cold_items=0.05)


def office(folder: Path) -> Tables:
    """Office products; their text is the title and the beginning of the description."""
    tables = further(folder / "office-amazon", "position")
    raw = pl.read_csv(folder / "office-amazon" / "items.csv.gz", infer_schema=False).fill_null("")
    told = [said(text) for text in raw["description"].to_list()]
    titles = raw["title"].to_list()
    texts = [f"{title}. {more}" if more else title for title, more in zip(titles, told, strict=True)]
    return Tables(item_table(raw["item_id"].to_list(), titles, texts), tables.events, tables.users)


def said(listed: str) -> str:
    """Words of a description: a list of strings, some of them HTML."""
    try:
        parts = ast.literal_eval(listed)
    except (ValueError, SyntaxError):
        parts = [listed]
    plain = re.sub(r"<!--.*?-->|<[^>]*>", " ", " ".join(map(str, parts)))
    return " ".join(plain.split())[:400]


def split_of(asked: argparse.Namespace) -> Split:
    if asked.dataset == "office":
        return make_split("office", office(asked.bench_data), SPLIT)
    english = cut_by_language(get("book-crossing"), "en")
    return make_split("books", cap_tables(english, max_items=asked.items, max_users=asked.users), SPLIT)


class MeanNeighbour:
    """Semantic nearest neighbours: an item's score is its cosine with the mean vector of a history."""

    name = "mean-neighbour"

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors = vectors

    def score(self, requests: Sequence[Request], candidates: np.ndarray | None = None) -> np.ndarray:
        rows = np.stack([self.vectors[r.history].sum(axis=0) for r in requests])
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
        return rows @ (self.vectors if candidates is None else self.vectors[candidates]).T


class Given:
    """A space of texts encoded before."""

    def __init__(self, texts: Sequence[str], vectors: np.ndarray, fingerprint: str) -> None:
        self.vectors = dict(zip(texts, vectors, strict=True))
        self.dimension, self.fingerprint = vectors.shape[1], fingerprint

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        return np.stack([self.vectors[text] for text in texts])


def vectors_of(texts: Sequence[str], arm: str, cache: Path) -> np.ndarray:
    """``float32[texts, d]`` of a frozen encoder, a tuned one, or ``start:FOLDER``: what the tuning began with."""
    if not arm.startswith("start:"):
        return open_space(arm, cache).encode(texts)
    _, manifest = read_tuned(Path(arm.removeprefix("start:")))
    network = network_over(open_encoder(manifest.base), manifest.config)
    states = network.read(texts)
    network.start_principal(states, evenness=manifest.training["settings"]["evenness"])
    return network.mapped(states)


def measure(asked: argparse.Namespace) -> None:
    """Item-to-item recall of every arm, and cold items; gains are paired over people and over the first arm."""
    split = split_of(asked)
    rows: EvaluationSet = split.validation if asked.rows == "validation" else split.test
    pairs = co_occurrences(split.train)
    found = held_out_pairs(split.train, rows, pairs.together, per_user=3, users=asked.people)
    counts = split.train.item_counts
    parts = {
        "all": np.ones(len(found), dtype=np.bool_),
        "rare": (counts[found.target] <= asked.rare) & (counts[found.target] > 0),
        "cold": counts[found.target] == 0,
    }
    arms = [*asked.frozen.split(","), *(f"start:{folder}" for folder in asked.tuned)]
    arms += [f"tuned:{folder}" for folder in asked.tuned]
    print(
        f"{split.train.n_items:,} items, {len(split.train.events):,} training events, {len(pairs):,} pairs;", asked.rows
    )
    report: dict[str, Any] = {"rows": asked.rows, "items": split.train.n_items, "arms": {}}
    ranked = rows if asked.people is None else rows_of(rows, sample_rows(rows, asked.people, seed=0))
    hits, cold = {}, {}
    for arm in arms:
        vectors = vectors_of(split.train.texts, arm, asked.cache)
        hits[arm] = item_recall(vectors, found, pairs.together, k=CUTS)
        space = Given(split.train.texts, vectors, arm)
        ease = SemanticEASE().fit(split.train, space, rng=np.random.default_rng(0))
        for name, model in (("neighbours", MeanNeighbour(vectors)), ("semantic-ease", ease)):
            figures = evaluate(model, split.train, ranked, slices=("all", "cold_among_cold"))  # type: ignore[arg-type]
            cold[arm, name] = {part: figures.values(slice_=part) for part in ("cold_among_cold", "all")}
    for part, keep in parts.items():
        chosen = found.take(keep)
        for cut in CUTS:
            base = by_user(hits[arms[0]][cut][keep], chosen)
            for arm in arms:
                tell(report, f"recall@{cut}, {part}", arm, by_user(hits[arm][cut][keep], chosen), base)
    for name in ("neighbours", "semantic-ease"):
        for part in ("cold_among_cold", "all"):
            for arm in arms:
                tell(report, f"NDCG@10 {name}, {part}", arm, cold[arm, name][part], cold[arms[0], name][part])
    if asked.report:
        asked.report.write_text(json.dumps(report, indent=1))


def tell(report: dict[str, Any], what: str, arm: str, values: np.ndarray, base: np.ndarray) -> None:
    one, gain = bootstrap_mean(values), paired_gain(values, base)
    report["arms"].setdefault(arm, {})[what] = {**one.as_dict(), "gain": vars(gain)}
    print(
        f"| {what} | {arm} | {one.n} | {one.mean:.4f} ({one.lo:.4f} to {one.hi:.4f}) | {gain.relative:+.1%} "
        f"({gain.relative_lo:+.1%} to {gain.relative_hi:+.1%}) |",
        flush=True,
    )


def languages(asked: argparse.Namespace) -> None:
    """German, French and Spanish books from English ones of the same readers; nothing of these was trained on."""
    tables = get("book-crossing")
    english = cap_tables(cut_by_language(tables, "en"), max_items=asked.items)
    arms = [*asked.frozen.split(","), *(f"tuned:{folder}" for folder in asked.tuned)]
    report: dict[str, Any] = {"arms": {}}
    told: dict[tuple[str, int], list[np.ndarray]] = {}
    for language in ("de", "fr", "es"):
        other = cap_tables(cut_by_language(tables, language), max_items=asked.items)
        found, texts = shared(english, other, asked.people)
        chance = np.array([10 / other.items.height, 100 / other.items.height])
        print(f"{language}: {other.items.height:,} books, {len(found):,} pairs; chance {chance.round(4).tolist()}")
        base: dict[int, np.ndarray] = {}
        for arm in arms:
            vectors = vectors_of(texts, arm, asked.cache)
            nothing = csr_matrix((len(texts), len(texts)), dtype=np.bool_)
            there = np.arange(len(texts) - other.items.height, len(texts))
            hits = item_recall(vectors, found, nothing, k=CUTS, candidates=there)
            for cut in CUTS:
                values = by_user(hits[cut], found)
                tell(report, f"{language}, recall@{cut}", arm, values, base.setdefault(cut, values))
                told.setdefault((arm, cut), []).append(values)
    for (arm, cut), parts in told.items():  # a reader of two of them counts twice
        tell(report, f"all three, recall@{cut}", arm, np.concatenate(parts), np.concatenate(told[arms[0], cut]))
    if asked.report:
        asked.report.write_text(json.dumps(report, indent=1))


def shared(english: Tables, other: Tables, people: int | None) -> tuple[ItemPairs, list[str]]:
    """Pairs (English book, other book) of shared readers, three of each, and texts: English ones first."""
    rng = np.random.default_rng(0)
    theirs = {key[0]: part["item_id"].to_list() for key, part in english.events.group_by("user_id")}
    place = {item: number for number, item in enumerate(other.items["item_id"].to_list())}
    rows = []
    readers = sorted(theirs.keys() & set(other.events["user_id"].to_list()))
    if people is not None and people < len(readers):
        readers = sorted(rng.choice(readers, people, replace=False).tolist())
    ours = {key[0]: part["item_id"].to_list() for key, part in other.events.group_by("user_id")}
    for number, reader in enumerate(readers):
        both = [(a, b) for a in sorted(theirs[reader]) for b in sorted(ours[reader])]
        rows += [(number, *both[at]) for at in np.sort(rng.permutation(len(both))[:3])]
    asked = sorted({a for _, a, _ in rows})
    told = dict(english.items.select("item_id", "text").iter_rows())
    first = {item: number for number, item in enumerate(asked)}
    columns = zip(*((user, first[a], len(asked) + place[b]) for user, a, b in rows), strict=True)
    pairs = ItemPairs(*(np.array(column, dtype=np.int32) for column in columns))
    return pairs, [*(told[item] for item in asked), *other.items["text"].to_list()]


def tune_one(asked: argparse.Namespace) -> None:
    config = TuneConfig() if asked.config is None else TuneConfig.from_toml(asked.config)
    if asked.base:
        config = config.model_copy(update={"base": asked.base})

    def show(progress: Any) -> None:
        if progress.epoch_over or progress.step % 16 == 0:
            figures = (progress.loss, progress.metric, progress.rows_per_second, progress.seconds_left)
            print(progress.epoch, progress.step, progress.steps, *figures, flush=True)

    tuned = tune(split_of(asked), config, asked.out, on_progress=show)
    print(json.dumps({key: value for key, value in tuned.report.items() if key != "settings"}, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("tune", "measure", "languages", "speed"))
    parser.add_argument("--dataset", choices=("office", "books"), default="office")
    parser.add_argument("--bench-data", type=Path, help="folder of the further public sets, for office")
    parser.add_argument("--items", type=int, default=12_000, help="of Book-Crossing, the most read")
    parser.add_argument("--users", type=int, default=None, help="of Book-Crossing at most; default: all")
    parser.add_argument("--rare", type=int, default=3, help="training events of a rare target at most; none: cold")
    parser.add_argument("--people", type=int, default=None, help="asked about at most")
    parser.add_argument("--rows", choices=("validation", "test"), default="validation")
    parser.add_argument("--base", default=None)
    parser.add_argument("--config", type=Path, default=None)
    parser.add_argument("--frozen", default="minilm-english", help="encoders, by commas; gains are over the first")
    parser.add_argument("--tuned", type=Path, action="append", default=[], help="folder of `tune`; may be repeated")
    parser.add_argument("--out", type=Path, default=Path("notellm"))
    parser.add_argument("--cache", type=Path, default=None, help="of vectors; default: the user's")
    parser.add_argument("--report", type=Path, default=None)
    parser.add_argument("--state", type=Path, default=Path("notellm-speed"))
    parser.add_argument("--sentence-transformers", default=None, help="an interpreter that has them")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="speed: of the weights")
    parser.add_argument("--first-layer", type=int, default=0, help="speed: LoRA from this layer on, on both sides")
    parser.add_argument("--pairs", type=int, default=256, help="speed: of the stream")
    parser.add_argument("--passes", type=int, default=1, help="speed: over the pairs, as a training makes them")
    asked = parser.parse_args()
    if asked.what == "speed":
        from bench.notellm_speed import speed

        speed(asked)
        return
    {"tune": tune_one, "measure": measure, "languages": languages}[asked.what](asked)


if __name__ == "__main__":
    main()
