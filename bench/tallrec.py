"""TALLRec's protocol: will somebody like a film, a book? A language model asked as it comes, shown examples, and tuned.

    python -m bench.tallrec run --model 'gguf:SmolLM2-135M-Instruct.Q4_1.gguf?dtype=bfloat16' --state DIR
    python -m bench.tallrec table --state DIR

Films: ml-100k, liked from four stars, the ten events before; the latest 10,000 judgements, by time 8 : 1 : 1. Books:
Book-Crossing's explicit ratings, liked from six, one drawn judgement of every reader with ten others of theirs drawn;
readers 8 : 1 : 1. Test and validation are drawn from their parts, training samples from theirs by each seed. All arms
answer the same test judgements; what is finished stays in DIR.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from koinon.config import write_atomically
from koinon.data import Domain, SplitConfig, make_split
from koinon.data.public import get
from koinon.evaluation.clicks import auc
from koinon.recommenders.llm_as_rs.texts import said
from koinon.recommenders.llm_as_rs.tuned import (
    Asked,
    Asking,
    LikingWords,
    LowRankDecoder,
    Samples,
    TuningConfig,
    judged_samples,
    tune_decoder,
)
from koinon.space import CachedSpace, open_encoder
from koinon.space.language import LanguageModel, open_language_model

HISTORY = 10
SIZES = {16: {"epochs": 12, "validate_every": 4}, 64: {"epochs": 6, "validate_every": 2}, 256: {"epochs": 2}}
"""Samples, and how long they are gone through."""
MANY = 2000
"""What the regression is also fitted on."""
SHOTS = 4


@dataclass(frozen=True)
class Kind:
    """A set, and how it is asked about."""

    data: str
    liked_from: float
    length: int
    words: LikingWords


KINDS = {
    "movies": Kind(
        "ml-100k",
        4.0,
        40,
        LikingWords(
            liked="Films that one person liked:",
            disliked="Films that the person disliked:",
            question="Will the person like this film?",
        ),
    ),
    "books": Kind(
        "book-crossing",
        6.0,
        32,
        LikingWords(
            liked="Books that one reader liked:",
            disliked="Books that the reader disliked:",
            question="Will the reader like this book?",
        ),
    ),
}


class Set:
    """One set's judgements in three parts, and what stands for its items."""

    def __init__(self, name: str, test: int, validation: int) -> None:
        self.name, self.kind = name, KINDS[name]
        tables = get(self.kind.data)
        tables = replace(tables, events=tables.events.filter(pl.col("weight") > 0))
        split = make_split(name, tables, SplitConfig(protocol="leave-last-out", minimum_item_events=1))
        self.domain: Domain = split.train.with_events(split.events)
        items = self.domain.items.with_columns(pl.col("title").str.replace(r" \(\d{4}\)$", ""))
        self.said = said(items, self.kind.length)
        rng = np.random.default_rng(0)
        found = judged_samples(self.domain, liked_from=self.kind.liked_from, history=HISTORY, rng=rng)
        order = rng.permutation(len(found)) if found.time is None else np.argsort(found.time, kind="stable")[-10_000:]
        first, second = int(0.8 * len(order)), int(0.9 * len(order))
        self.pool, rest, last = (found.take(part) for part in np.split(order, [first, second]))
        self.validation = rest.take(np.sort(rng.permutation(len(rest))[:validation]))
        self.test = last.take(np.sort(rng.permutation(len(last))[:test]))

    def train(self, seed: int, size: int) -> Samples:
        """The first so many of the pool in the seed's order: smaller ones are part of larger ones."""
        return self.pool.shuffled(np.random.default_rng([seed, 1])).take(np.arange(min(size, len(self.pool))))

    @cached_property
    def known(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Share of likings (with ten of the mean beside them) and number of judgements of each item, before the others.

        Films: every rating before the first judgement of validation. Books: the readers of the training part.
        """
        events = self.domain.events
        if events.time is None or self.pool.time is None:
            before = np.isin(events.user, self.pool.person)
        else:
            before = events.time <= self.pool.time.max()
        assert events.marks is not None
        liked = events.marks.weight[before] >= self.kind.liked_from
        counts = np.bincount(events.item[before], minlength=self.domain.n_items).astype(np.float64)
        likings = np.bincount(events.item[before], liked, minlength=self.domain.n_items)
        return (likings + 10 * liked.mean()) / (counts + 10), counts

    def features(self, samples: Samples, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Item's share and number, the person's share, and how much nearer the text is to what was liked."""
        share, counts = self.known
        known = samples.history >= 0
        likes, dislikes = samples.liked, known & ~samples.liked
        near = np.einsum("nhd,nd->nh", vectors[np.maximum(samples.history, 0)], vectors[samples.item])
        margin = _mean(near, likes) - _mean(near, dislikes)
        mine = (likes.sum(axis=1) + 1) / (known.sum(axis=1) + 2)
        return np.column_stack((share[samples.item], np.log1p(counts[samples.item]), mine, margin))


def _mean(values: NDArray[Any], which: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.where(which, values, 0.0).sum(axis=1) / np.maximum(which.sum(axis=1), 1)


class Run:
    """Arms that are finished lie in a folder, one file each: margins of validation and test, and what they cost."""

    def __init__(self, options: argparse.Namespace, name: str) -> None:
        self.options = options
        self.set = Set(name, options.test, options.validation)
        self.folder: Path = options.state / name

    def keep(self, arm: str, make: Callable[[], dict[str, Any]]) -> None:
        path = self.folder / f"{arm}.json"
        if path.exists():
            return
        began = time.process_time()
        found = make()
        found["seconds"] = time.process_time() - began
        write_atomically(path, json.dumps(found))
        value = auc(self.set.validation.label, np.array(found["validation"]))
        print(f"{self.set.name} {arm}: validation {value:.3f}, {found['seconds']:.0f} s of processor time", flush=True)

    def conventional(self) -> None:
        """What needs no language model."""
        parts = {"validation": self.set.validation, "test": self.set.test}
        share, counts = self.set.known

        def each(score: Callable[[Samples], NDArray[Any]]) -> Callable[[], dict[str, Any]]:
            return lambda: {part: score(samples).astype(float).tolist() for part, samples in parts.items()}

        self.keep("popularity", each(lambda samples: counts[samples.item]))
        self.keep("item share", each(lambda samples: share[samples.item]))
        space = CachedSpace(open_encoder("use-multilingual"), self.options.state / "vectors")
        many = [self.set.train(0, MANY), *(self.set.train(seed, 256) for seed in range(1, self.options.seeds))]
        read = [np.r_[one.item, one.history.ravel()] for one in (*parts.values(), *many)]
        used = np.unique(np.concatenate(read))
        used = used[used >= 0]
        vectors = np.zeros((self.set.domain.n_items, space.dimension), dtype=np.float32)
        vectors[used] = space.encode([self.set.said[item] for item in used])

        def regression(size: int, seed: int) -> Callable[[Samples], NDArray[Any]]:
            train = self.set.train(seed, size)
            model = make_pipeline(StandardScaler(), LogisticRegression())
            model.fit(self.set.features(train, vectors), train.label)
            return lambda samples: model.decision_function(self.set.features(samples, vectors))

        for seed in range(self.options.seeds):
            for size in SIZES:
                self.keep(f"regression-{size}-{seed}", each(regression(size, seed)))
        self.keep(f"regression-{MANY}-0", each(regression(MANY, 0)))

    def asked(self, model: LanguageModel) -> None:
        """As it comes, tuned by every seed and size, and shown examples."""
        config = TuningConfig(layers=self.options.layers, learning_rate=self.options.rate, patience=2)
        asking = Asking(model, self.set.kind.words)
        fresh = LowRankDecoder(model, config.lora, config.layers)
        begun: dict[str, Asked] = {}

        def parts() -> dict[str, Asked]:
            if not begun:
                for part in ("validation", "test"):
                    samples = getattr(self.set, part)
                    begun[part] = Asked.of(fresh, asking, samples, self.set.said)
            return begun

        def margins(decoder: LowRankDecoder) -> dict[str, Any]:
            return {part: decoder.margins(one.begun, asking.yes, asking.no).tolist() for part, one in parts().items()}

        self.keep("zero-shot", lambda: margins(fresh))
        for seed in range(self.options.seeds):
            for size, course in SIZES.items():

                def tune(seed: int = seed, size: int = size, course: dict[str, int] = course) -> dict[str, Any]:
                    decoder = LowRankDecoder(model, config.lora.model_copy(update={"seed": seed}), config.layers)
                    train = Asked.of(decoder, asking, self.set.train(seed, size), self.set.said)
                    told = tune_decoder(
                        decoder,
                        asking,
                        train,
                        parts()["validation"],
                        config.model_copy(update=course),
                        seed=seed,
                        checkpoint=self.folder / f"tuning-{size}-{seed}",
                        fingerprint=f"{size} {seed} {config.model_dump_json()} {course} {model.fingerprint}",
                    )
                    curve = [(epoch.number, epoch.loss, epoch.metric) for epoch in told.curve]
                    return {**margins(decoder), "best_epoch": told.best_epoch, "curve": curve}

                self.keep(f"tuned-{size}-{seed}", tune)
            if seed < self.options.shown:
                self.keep(f"shown-{seed}", lambda seed=seed: dict(self.shown(model, seed)))

    def shown(self, model: LanguageModel, seed: int) -> Iterator[tuple[str, list[float]]]:
        """Two likings and two dislikings of the training part stand before every question, read once."""
        plain = Asking(model, self.set.kind.words)
        train = self.set.train(seed, 64)
        rows = np.concatenate([np.flatnonzero(train.label == label)[: SHOTS // 2] for label in (True, False)])
        rows = np.random.default_rng(seed).permutation(rows)
        told = [
            plain.told(*train.split(row, self.set.said), self.set.said[train.item[row]], bool(train.label[row]))
            for row in rows.tolist()
        ]
        read = model.read("".join(f"{one}\n\n" for one in told))
        for part in ("validation", "test"):
            samples: Samples = getattr(self.set, part)
            texts = [
                plain.before(*samples.split(row, self.set.said)) + plain.after(self.set.said[item])
                for row, item in enumerate(samples.item.tolist())
            ]
            found = model.choices(read, texts, [plain.words.yes, plain.words.no])
            yield part, (found[:, 0] - found[:, 1]).tolist()


def drawn_aucs(
    label: NDArray[np.bool_], scores: list[NDArray[Any]], person: NDArray[np.integer], samples: int = 1000
) -> NDArray[np.float64]:
    """AUC of every arm over whole people drawn again and again, ``float64[samples, arms]``; one label alone: left out.

    Books have one judgement of each reader, so that an AUC within people does not exist.
    """
    rng = np.random.default_rng(0)
    _, first, rows = np.unique(person, return_index=True, return_counts=True)
    order = np.argsort(person, kind="stable")
    starts = np.concatenate(([0], np.cumsum(rows)))
    found = []
    for _ in range(samples):
        people = rng.integers(len(first), size=len(first))
        chosen = np.concatenate([order[starts[one] : starts[one + 1]] for one in people])
        if label[chosen].min() < label[chosen].max():
            found.append([auc(label[chosen], score[chosen]) for score in scores])
    return np.array(found)


def table(options: argparse.Namespace) -> None:
    """AUC of every arm on the same test judgements, 95 % intervals over people; seeds averaged by standing."""
    arms = ["popularity", "item share", "zero-shot", "shown"]
    arms += [f"{what}-{size}" for size in (*SIZES, MANY) for what in ("regression", "tuned")]
    for name in options.sets.split(","):
        one = Set(name, options.test, options.validation)
        label, person = one.test.label, one.test.person
        print(f"{name}: {len(label)} judgements of {len(np.unique(person))} people, {label.mean():.2f} liked")
        zero = None
        for arm in arms:
            files = sorted((options.state / name).glob(f"{arm}.json")) or sorted(
                (options.state / name).glob(f"{arm}-[0-9].json")
            )
            if not files:
                continue
            kept = [json.loads(path.read_text()) for path in files]
            scores = [np.array(found["test"]) for found in kept]
            values = [auc(label, score) for score in scores]
            together = np.mean([np.argsort(np.argsort(score, kind="stable")) for score in scores], axis=0)
            if len(scores) == 1:
                together = scores[0]
            validation = np.mean([auc(one.validation.label, np.array(found["validation"])) for found in kept])
            zero = scores[0] if arm == "zero-shot" else zero
            drawn = drawn_aucs(label, [together, together if zero is None else zero], person)
            lo, hi = np.quantile(drawn[:, 0], [0.025, 0.975])
            beside = ""
            if zero is not None and arm != "zero-shot":
                gain = auc(label, together) - auc(label, zero)
                below, above = np.quantile(drawn[:, 0] - drawn[:, 1], [0.025, 0.975])
                beside = f"; over zero-shot {gain:+.3f} ({below:+.3f} to {above:+.3f})"
            each = " ".join(f"{value:.3f}" for value in values)
            seconds = np.mean([found["seconds"] for found in kept])
            print(
                f"  {arm:16} validation {validation:.3f}, test mean {np.mean(values):.3f} (seeds {each}); "
                f"seeds together {auc(label, together):.3f} ({lo:.3f} to {hi:.3f}){beside}; {seconds:.0f} s"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--model", help="hf:… or gguf:…")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--sets", default="movies,books")
    parser.add_argument("--test", type=int, default=500)
    parser.add_argument("--validation", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shown", type=int, default=1, help="seeds of the arm that is shown examples")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--rate", type=float, default=2e-3)
    options = parser.parse_args()
    if options.what == "table":
        table(options)
        return
    model = None if options.model is None else open_language_model(options.model)
    for name in options.sets.split(","):
        run = Run(options, name)
        run.conventional()
        if model is not None:
            run.asked(model)


if __name__ == "__main__":
    main()
