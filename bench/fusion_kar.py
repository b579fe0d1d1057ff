"""KAR on ml-100k: what a small language model writes of films and people, as features, against the same without it.

    python -m bench.fusion_kar write --out DIR --model 'gguf:SmolLM2-135M-Instruct.Q4_1.gguf' --items 300 --people 100
    python -m bench.fusion_kar clicks --out DIR --model … --items 300 --people 100
    python -m bench.fusion_kar cold --out DIR --model … --items 300

`write` writes what the other two read, and goes on where it stopped. `clicks`: DCNv2 by CTRL's protocol (likes above
three stars, divided by time), without and with knowledge, and with plain text vectors of the same films and people in
its place; settings are chosen on validation for each arm, the test rows read once. `cold`: EASE with the space on a
hold-out with a fifth of the catalogue cold, the cold films written about as well; the share of the second view is
chosen on validation. What was written and what was measured is kept and not made again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from koinon.config import write_atomically
from koinon.data import SplitConfig, make_split
from koinon.data.public import get
from koinon.evaluation import evaluate
from koinon.evaluation.clicks import auc, click_gains
from koinon.evaluation.significance import bootstrap_mean, paired_gain
from koinon.recommenders.clicks import ClickData, DCNv2, DCNv2Config, click_data, with_told
from koinon.recommenders.fusion.kar import KAR, KARConfig
from koinon.recommenders.fusion.knowledge import Knowledge, KnowledgeConfig, Questions, write_knowledge
from koinon.recommenders.llm_as_rs.prompted import said
from koinon.space import Space, open_space
from koinon.space.generating import WritingConfig

FILMS = Questions(
    item="In one sentence: what is the film “{titles}” about, and what kind of people like it?",
    person="Somebody liked these films: {titles}. In one sentence: what do they have in common, and what does this "
    "person look for?",
)
GRID = [
    {"learning_rate": 1e-3, "dropout": dropout, "weight_decay": decay, "width": 16, "hidden": (64, 32)}
    for dropout in (0.0, 0.3)
    for decay in (1e-2,)
]
"""Settings of DCNv2 tried on validation, the same for every arm."""
SEEDS = (0, 1)


def settings(options: argparse.Namespace) -> KnowledgeConfig:
    record = str(options.out / "written")
    patient = WritingConfig(no_repeat=4, seconds=3600.0)  # a busy machine must not cut texts short
    return KnowledgeConfig(
        model=options.model, record=record, questions=FILMS, seconds=options.seconds, writing=patient
    )


def written(options: argparse.Namespace, space: Space, data: ClickData, titles: list[str]) -> Knowledge:
    """Of the films most shown in training rows, and of the people with most likes there."""
    items, liked = treated(options, data)
    return write_knowledge(titles, items, liked, len(data.people.ids), space, settings(options), progress=say)


def treated(options: argparse.Namespace, data: ClickData) -> tuple[np.ndarray, Mapping[int, np.ndarray]]:
    """The most shown films, and of the people with most likes the films liked, in training rows."""
    train = data.train
    items = np.argsort(-np.bincount(train.item, minlength=len(data.items.ids)), kind="stable")[: options.items]
    likes = train.take(train.label == 1)
    people = np.argsort(-np.bincount(likes.person, minlength=len(data.people.ids)), kind="stable")[: options.people]
    return items, {int(person): likes.item[likes.person == person] for person in people}


def cold_titles() -> tuple[Any, list[int]]:
    """A hold-out with a fifth of the catalogue cold, and the cold items."""
    split = make_split("ml-100k", get("ml-100k"), SplitConfig(protocol="holdout", cold_items=0.2))
    return split, np.flatnonzero(split.train.item_counts == 0).tolist()


def say(name: str, done: int, total: int) -> None:
    print(name, done, "of", total, flush=True)


def plain(data: ClickData, items: np.ndarray, liked: Mapping[int, np.ndarray], texts: np.ndarray) -> Knowledge:
    """The texts themselves in place of knowledge: no language model has written a word."""
    of_items, of_people = np.zeros_like(texts), np.zeros((len(data.people.ids), texts.shape[1]), dtype=np.float32)
    of_items[items] = texts[items]
    for person, had in liked.items():
        mean = texts[had[-10:]].mean(axis=0)
        of_people[person] = mean / max(float(np.linalg.norm(mean)), 1e-9)
    return Knowledge(of_items, of_people)


def clicks(options: argparse.Namespace) -> None:
    """AUC of test rows; each arm's settings by validation, three seeds."""
    space, tables = open_space(), get("ml-100k")
    data, titles = click_data("ml-100k", tables), said(tables.items, 80)
    items, liked = treated(options, data)
    knowledge = written(options, space, data, titles)
    texts = np.asarray(space.encode(tables.items["text"].to_list()), dtype=np.float32)
    control = plain(data, items, liked, texts)
    arms = {
        "DCNv2": data,
        "DCNv2 with texts": with_told(data, control.people, control.items),
        "DCNv2 with knowledge": with_told(data, knowledge.people, knowledge.items),
    }
    print(
        f"written of {len(knowledge.of_items)} films and {len(knowledge.of_people)} people, no use: {knowledge.faults}"
    )
    shown = np.isin(data.test.item, list(knowledge.of_items))
    known = np.isin(data.test.person, list(knowledge.of_people))
    print(f"{shown.mean():.2f} of test rows show such a film, {known.mean():.2f} are of such a person")
    chances: dict[str, np.ndarray] = {}
    for name, told in arms.items():
        if options.arms and name not in options.arms.split(","):
            continue
        path = options.out / f"{name}.json"
        if not path.exists():
            began = time.process_time()
            tried = [(DCNv2(DCNv2Config(**setting)).fit(told, seed=99), setting) for setting in GRID]
            values = [auc(told.validation.label, model.predict(told.validation)) for model, _ in tried]
            best = GRID[int(np.argmax(values))]
            runs = [DCNv2(DCNv2Config(**best)).fit(told, seed=seed).predict(told.test).tolist() for seed in SEEDS]
            kept = {"validation": values, "settings": best, "test": runs, "seconds": time.process_time() - began}
            write_atomically(path, json.dumps(kept) + "\n")
        kept = json.loads(path.read_text())
        chances[name] = np.array(kept["test"], dtype=np.float32)
        print(f"{name}: validation {max(kept['validation']):.4f}, {kept['settings']}, {kept['seconds']:.0f} s")
    for name, runs in chances.items():
        per_seed = [auc(data.test.label, run) for run in runs]
        line = f"{name:22} AUC {np.mean(per_seed):.4f} ({', '.join(f'{one:.4f}' for one in per_seed)})"
        for against in ("DCNv2", "DCNv2 with texts"):
            if against != name and against in chances:
                gain = click_gains(data.test.label, runs.mean(axis=0), chances[against].mean(axis=0), data.test.person)
                one = gain["auc"]
                line += (
                    f"; mean of seeds over {against}: {one.gain:+.4f} ({one.lo:+.4f} to {one.hi:+.4f}, p {one.p:.3f})"
                )
        print(line)


def cold(options: argparse.Namespace) -> None:
    """NDCG@10 of cold films; the second view's share by validation."""
    space = open_space()
    split, items = cold_titles()
    titles = said(split.train.items, 80)
    warm = np.argsort(-split.train.item_counts, kind="stable")[: options.items]
    treated_items = [*warm.tolist(), *items]
    known = write_knowledge(titles, treated_items, {}, split.train.n_users, space, settings(options), progress=say)
    print(f"written of {len(known.of_items)} films, no use: {known.faults}")
    base = json.loads(options.ease.read_text())["ease"] if options.ease else {}
    shelf = {**base, "cold_weight": 0.4}
    arms: dict[float, Any] = {}
    for share in (0.0, 0.1, 0.2, 0.3, 0.5):
        config = KARConfig(base="semantic-ease", base_settings=shelf, share=share)
        model = KAR(config, knowledge=known).fit(split.train, space, rng=np.random.default_rng(0))
        arms[share] = model, evaluate(model, split.train, split.validation, slices=("cold_among_cold",))
    value = {share: round(found.mean(slice_="cold_among_cold"), 4) for share, (_, found) in arms.items()}
    best = max(value, key=lambda share: (value[share], -share))
    print("validation, share to NDCG@10 among cold:", value)
    figures = {
        share: evaluate(arms[share][0], split.train, split.test, slices=("cold_among_cold", "cold_items"))
        for share in {0.0, best}
    }
    for part in ("cold_among_cold", "cold_items"):
        ours, theirs = figures[best].values(slice_=part), figures[0.0].values(slice_=part)
        gain, mean = paired_gain(ours, theirs), bootstrap_mean(ours)
        print(
            f"{part}: share {best}: {mean.mean:.4f} ({mean.lo:.4f} to {mean.hi:.4f}, {mean.n}), without "
            f"{theirs.mean():.4f}, gain {gain.gain:+.4f} ({gain.lo:+.4f} to {gain.hi:+.4f}, p {gain.p:.3f})"
        )


def write(options: argparse.Namespace) -> None:
    """Have everything written that the other two read, and show some of it."""
    space, tables = open_space(), get("ml-100k")
    data, titles = click_data("ml-100k", tables), said(tables.items, 80)
    began = time.process_time()
    found = written(options, space, data, titles)
    split, items = cold_titles()
    warm = np.argsort(-split.train.item_counts, kind="stable")[: options.items]
    others = [*warm.tolist(), *items]
    more = write_knowledge(
        said(split.train.items, 80), others, {}, split.train.n_users, space, settings(options), progress=say
    )
    print(f"{time.process_time() - began:.0f} s of processor time; no use: {found.faults}, {more.faults}")
    for texts in (found.of_items, found.of_people):
        for row in list(texts)[:4]:
            print("-", texts[row])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["write", "clicks", "cold"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--items", type=int, default=300)
    parser.add_argument("--people", type=int, default=100)
    parser.add_argument("--arms", help="clicks: some of the arms, by name")
    parser.add_argument(
        "--seconds", type=float, help="time for writing; the rest stays unknown, e.g. 0.001: only what is on record"
    )
    parser.add_argument("--ease", type=Path, help="cold: tuned.json of bench.fusion_pseudo")
    options = parser.parse_args()
    {"write": write, "clicks": clicks, "cold": cold}[options.what](options)


if __name__ == "__main__":
    main()
