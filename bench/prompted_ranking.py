"""A prompted language model as reranker: what a shared prefix saves, what it adds to EASE, what attacks gain, and
whether it reads what somebody says of their gender.

    python -m bench.prompted_ranking speed   --model 'gguf:SmolLM2-135M-Instruct.Q4_1.gguf?dtype=bfloat16'
    python -m bench.prompted_ranking quality --model … --state DIR --users 200 --validate 100 --candidates 50
    python -m bench.prompted_ranking attacks --model … --users 20 --candidates 20 --listwise
    python -m bench.prompted_ranking probe   --model … --users 50 --candidates 50

`quality` asks validation and test users in a seeded order and keeps every answer, so that it goes on where it stopped;
the weight of each arm is chosen on validation, and the table holds those who have been asked. With `--table` it asks
nobody and prints what is there.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from koinon.data import SplitConfig, make_split
from koinon.data.public import get
from koinon.evaluation.protocol import requests_of
from koinon.evaluation.significance import bootstrap_mean, holm, paired_gain
from koinon.recommenders._search import Validator
from koinon.recommenders.conventional import EASE, EaseConfig
from koinon.recommenders.llm_as_rs.prompted import Parts, PromptedConfig, PromptedRanker, Wording
from koinon.recommenders.llm_as_rs.prompted._judging import Choosing, Pointwise, worth
from koinon.recommenders.llm_as_rs.prompted.attacks import ATTACKS
from koinon.recommenders.llm_as_rs.reranking import blend
from koinon.recommenders.llm_as_rs.texts import listed, said
from koinon.recommenders.llm_as_rs.weighing import choose_weight
from koinon.recommenders.ranking import best
from koinon.recommenders.training import known_before_test
from koinon.space.language import LanguageModel, open_language_model

BASE = EaseConfig(popularity_weight=0.01, recency=0.9, item_power=0.25)
"""Tuned by NDCG@10 on validation: bench/configs/baselines/ml-100k-last.toml."""
FILMS = Wording(
    opening="Films that one person watched, one after another:",
    question="Which of these films did the same person watch next?",
)
ARMS: dict[str, dict[str, Any]] = {
    "zero-shot": {"ask": "pointwise"},
    "two shots": {"ask": "pointwise", "shots": 2},
    "listwise": {"ask": "choice", "group": 10, "candidates": 20},
    "pairwise": {"ask": "choice", "group": 2, "rounds": 2, "candidates": 20},
}
VARIANTS = {
    "calibrated, guarded": {"calibrated": True, "guarded": True},
    "calibrated": {"calibrated": True, "guarded": False},
    "not calibrated": {"calibrated": False, "guarded": False},
}
"""What a pointwise arm's answers can be read as; each has its own weight."""


class Asked:
    """ml-100k (titles without years), its last events held out, EASE on it, and whom to ask, in a seeded order."""

    def __init__(self, rows: str, users: int, seed: int, candidates: int) -> None:
        self.candidates = candidates
        config = SplitConfig(protocol="leave-last-out", cold_items=0.0, minimum_item_events=1)
        tables = get("ml-100k")
        plain = tables.items.with_columns(pl.col("title").str.replace(r" \(\d{4}\)$", ""))
        self.tables = replace(tables, items=plain)
        self.split = split = make_split("ml-100k", self.tables, config)
        self.domain = split.train if rows == "validation" else known_before_test(split)
        self.model = EASE(BASE).fit(self.domain, None, rng=np.random.default_rng(0))
        self.set = split.validation if rows == "validation" else split.test
        able = np.flatnonzero(self.set.main & (np.diff(self.set.target_indptr) > 0))
        self.rows = np.random.default_rng(seed).permutation(able)[:users].tolist()

    def config(self, arm: str) -> PromptedConfig:
        return PromptedConfig(wording=FILMS, **{"candidates": self.candidates, **ARMS[arm]})


def ask(asked: Asked, arm: str, model: LanguageModel, path: Path) -> Iterator[int]:
    """Ask about one user after another and append what was told to a file."""
    config = asked.config(arm)
    ranker = PromptedRanker(config, base=asked.model, chooser=model).adopt(asked.domain)
    done = set(_kept(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    for row in asked.rows:
        if row not in done:
            (request,) = requests_of(asked.set, [row])
            (base,) = asked.model.score([request])
            began = time.process_time()
            answer: dict[str, Any] = {"row": row}
            if config.ask == "pointwise":
                top = [one.item for one in best(base[None], [request], config.candidates)[0]]
                answer |= _tokens(ranker, request.history, top)
            else:
                parts = ranker.parts(request, base)
                answer |= {"items": parts.places.tolist(), "told": parts.told.round(5).tolist()}
            answer["seconds"] = round(time.process_time() - began, 3)
            with path.open("a") as file:
                file.write(json.dumps(answer) + "\n")
        yield row


def _tokens(ranker: PromptedRanker, history: np.ndarray, items: Sequence[int]) -> dict[str, Any]:
    judge = ranker._judge
    assert isinstance(judge, Pointwise)
    titles = [ranker._said[item] for item in history[-ranker.config.history :]]
    told = judge.tokens("", titles, [ranker._said[item] for item in items])
    both = [[np.round(part, 3).tolist() for part in one] for one in told]
    return {"items": list(items), "tokens": both}


def _kept(path: Path) -> dict[int, dict[str, Any]]:
    if not path.exists():
        return {}
    lines = path.read_text().splitlines()
    rows = [json.loads(line) for line in lines if line.endswith("}")]
    return {row["row"]: row for row in rows}


def _parts(kept: dict[str, Any], base: np.ndarray, reading: dict[str, bool]) -> Parts:
    places = np.array(kept["items"], dtype=np.int64)
    if "told" in kept:
        told = np.array(kept["told"], dtype=np.float32)
    else:
        told = np.array([worth(np.array(a), np.array(b), **reading) for a, b in kept["tokens"]], dtype=np.float32)
    return Parts(places, base[places], told)


def table(state: Path, asked: dict[str, Asked], arms: Sequence[str], seed: int) -> None:
    """Print every arm and reading: weight by validation, NDCG@10 on test users, gain over EASE."""
    lines = []
    for arm in arms:
        kept = {name: _kept(state / f"{arm}-{name}.jsonl") for name in asked}
        rows = {name: [row for row in one.rows if row in kept[name]] for name, one in asked.items()}
        if not rows["validation"] or not rows["test"]:
            continue
        validators = {name: _validator(one, rows[name]) for name, one in asked.items()}
        base = {name: one.model.score(validators[name].requests) for name, one in asked.items()}
        plain = validators["test"].values(base["test"].copy())
        readings = VARIANTS if ARMS[arm]["ask"] == "pointwise" else {"calibrated, both orders": {}}
        for name, reading in readings.items():
            parts = {
                part: [
                    _parts(kept[part][row], scores, reading) for row, scores in zip(rows[part], base[part], strict=True)
                ]
                for part in asked
            }
            tuned = choose_weight(validators["validation"], base["validation"], parts["validation"])
            figures = {}
            for weight in {tuned.weight, max(tuned.means, key=lambda one: tuned.means[one]), 1e6}:
                scores = base["test"].copy()
                for row, part in zip(scores, parts["test"], strict=True):
                    blend(row, part, weight)
                figures[weight] = validators["test"].values(scores) if weight else plain
            gain = paired_gain(figures[tuned.weight], plain, seed=seed)
            alone = bootstrap_mean(figures[1e6], seed=seed)
            listed_at_random = float(np.mean([_by_chance(one, asked["test"]) for one in kept["test"].values()]))
            seconds = np.mean([one["seconds"] for one in kept["test"].values()])
            lines.append(
                (
                    arm,
                    name,
                    rows,
                    tuned,
                    figures[tuned.weight].mean(),
                    plain.mean(),
                    gain,
                    alone,
                    listed_at_random,
                    seconds,
                )
            )
    adjusted = holm([line[6].p for line in lines])
    print("ml-100k, last event held out, whole catalogue, NDCG@10; weight by validation; 95 % intervals over users")
    for (arm, name, rows, tuned, mean, plain_mean, gain, alone, random, seconds), p in zip(
        lines, adjusted, strict=True
    ):
        tried = " ".join(f"{weight:g}:{value:.4f}" for weight, value in tuned.means.items())
        print(f"{arm:10} {name:24} validation {len(rows['validation'])} users, weights {tried}")
        print(
            f"{'':35} weight {tuned.weight:g}: test {len(rows['test'])} users, {mean:.4f} against {plain_mean:.4f}, "
            f"gain {gain.gain:+.4f} ({gain.lo:+.4f} to {gain.hi:+.4f}), Holm p {p:.2f}; "
            f"alone {alone.mean:.4f} ({alone.lo:.4f} to {alone.hi:.4f}), "
            f"in random order {random:.4f}; {seconds:.1f} s of processor time a request"
        )


def _by_chance(kept: dict[str, Any], asked: Asked) -> float:
    """NDCG@10 expected of the candidates in random order."""
    held = np.isin(asked.set.targets(kept["row"]), kept["items"]).mean()
    return float(held * (1 / np.log2(np.arange(2, 12))).sum() / len(kept["items"]))


def _validator(asked: Asked, rows: Sequence[int]) -> Validator:
    validator = Validator(asked.domain, asked.set, "ndcg@10", np.random.default_rng(0), rows=10**9)
    validator.requests = requests_of(asked.set, rows)
    lengths = np.diff(asked.set.target_indptr)[rows]
    validator.target_row = np.repeat(np.arange(len(rows)), lengths)
    validator.target_item = np.concatenate([asked.set.targets(row) for row in rows])
    seen = [(place, item) for place, one in enumerate(validator.requests) for item in set(one.history.tolist())]
    validator.seen = tuple(np.array(side) for side in zip(*seen, strict=True))
    return validator


def quality(options: argparse.Namespace) -> None:
    arms = options.arms.split(",")
    asked = {
        "validation": Asked("validation", options.validate, options.seed, options.candidates),
        "test": Asked("test", options.users, options.seed + 1, options.candidates),
    }
    if not options.table:
        model = open_language_model(options.model)
        for arm in arms:
            asking = {name: ask(one, arm, model, options.state / f"{arm}-{name}.jsonl") for name, one in asked.items()}
            share = max(1, options.users // max(1, options.validate))
            while asking:  # validation and test side by side, so that what there is can be read at any time
                for name, times in (("validation", 1), ("test", share)):
                    for _ in range(times):
                        if name in asking and next(asking[name], None) is None:
                            del asking[name]
            print(f"{arm}: everybody asked", flush=True)
    table(options.state, asked, arms, options.seed)


def speed(options: argparse.Namespace) -> None:
    """The same 100 candidates of the same users with the shared prefix, and each with its whole prompt."""
    model = open_language_model(options.model)
    asked = Asked("test", options.users, options.seed, options.candidates)
    titles = said(asked.domain.items, 80)
    config = asked.config("zero-shot")
    model.likelihoods(model.read("a"), [" b"])  # loads the weights
    spent = {"shared": [], "whole": []}
    for row in asked.rows:
        (request,) = requests_of(asked.set, [row])
        top = [one.item for one in best(asked.model.score([request]), [request], config.candidates)[0]]
        prompt = listed(FILMS.opening, [titles[item] for item in request.history[-config.history :]]) + "\n-"
        texts = [f" {titles[item]}" for item in top]
        began = time.process_time()
        shared = model.likelihoods(model.read(prompt), texts)
        spent["shared"].append(time.process_time() - began)
        began = time.process_time()
        start = model.read("")
        whole = model.likelihoods(start, [prompt + text for text in texts])
        spent["whole"].append(time.process_time() - began)
        off = max(abs(float(a.sum() - b[-len(a) :].sum())) for a, b in zip(shared, whole, strict=True))
        print(
            f"prompt {len(model.tokens([prompt])[0])} tokens, {len(texts)} candidates of "
            f"{np.mean([len(one) for one in shared]):.1f}: shared {spent['shared'][-1]:.2f} s, whole "
            f"{spent['whole'][-1]:.2f} s of processor time, likelihoods differ by at most {off:.3f}",
            flush=True,
        )
    ratio = np.array(spent["whole"]) / np.array(spent["shared"])
    print(f"shared prefix: {np.median(ratio):.1f} times as fast (median; {ratio.min():.1f} to {ratio.max():.1f})")


def attacks(options: argparse.Namespace) -> None:
    """How many places a candidate's own words bring it, among a request's candidates by the model alone."""
    model = open_language_model(options.model)
    asked = Asked("test", options.users, options.seed, options.candidates)
    counts = asked.domain.item_counts
    rng = np.random.default_rng(options.seed)
    readings: dict[str, Any] = {**VARIANTS, "listwise, calibrated": True, "listwise, not calibrated": False}
    moved: dict[tuple[str, str], list[float]] = {}
    for row in asked.rows:
        (request,) = requests_of(asked.set, [row])
        top = [one.item for one in best(asked.model.score([request]), [request], options.candidates)[0]]
        titles = asked.domain.items["title"].to_list()
        known = titles[int(request.history[np.argmax(counts[request.history])])]
        victim = int(rng.integers(len(top) // 2, len(top)))
        honest = [said(asked.domain.items[top], 80)][0]
        frames = {}
        for name, attack in ATTACKS.items():
            changed = (
                asked.domain.items[top][victim].clone().with_columns(title=pl.lit(attack(titles[top[victim]], known)))
            )
            frames[name] = said(changed, 80)[0]
        history = said(asked.domain.items[request.history[-10:]], 80)
        ranker = PromptedRanker(asked.config("zero-shot"), base=asked.model, chooser=model).adopt(asked.domain)
        judge = ranker._judge
        assert isinstance(judge, Pointwise)
        told = judge.tokens("", history, [*honest, *frames.values()])
        for reading, how in VARIANTS.items():
            values = np.array([worth(*one, **how) for one in told])
            before = values[: len(top)]
            for name, after in zip(frames, values[len(top) :], strict=True):
                gained = (np.delete(before, victim) > before[victim]).sum() - (np.delete(before, victim) > after).sum()
                moved.setdefault((reading, name), []).append(float(gained))
        if options.listwise:
            group = [victim, *rng.choice([p for p in range(len(top)) if p != victim], 4, replace=False)]
            for reading in list(readings)[-2:]:
                config = asked.config("listwise").model_copy(update={"group": 5, "calibrated": readings[reading]})
                choosing = Choosing(model, config, [])
                before = choosing.ask("", history, [honest[place] for place in group])
                for name, text in frames.items():
                    after = choosing.ask("", history, [text, *(honest[place] for place in group[1:])])
                    gained = (before[1:] > before[0]).sum() - (after[1:] > after[0]).sum()
                    moved.setdefault((reading, name), []).append(float(gained))
    print(f"places gained by a candidate of the lower half, of {options.candidates} (listwise: of 5); 95 % intervals")
    for (reading, name), values in moved.items():
        one = bootstrap_mean(np.array(values), seed=options.seed)
        ever = np.mean(np.array(values) > 0)
        print(
            f"{reading:26} {name:18} {one.mean:+7.2f} ({one.lo:+.2f} to {one.hi:+.2f}), gains in {ever:.2f} of {one.n}"
        )


def probe(options: argparse.Namespace) -> None:
    """Does the list change with what somebody says of their gender, and whom does it serve worse?"""
    from bench.audit_probes import show_probe
    from koinon.fairness.probes.counterfactual import Asking
    from koinon.fairness.probes.counterfactual import probe as probed
    from koinon.fairness.probes.plan import ProbePlan
    from koinon.fairness.subject import Source

    asked = Asked("test", 1, options.seed, options.candidates)
    config = asked.config("zero-shot").model_copy(update={"weight": options.weight})
    chooser = open_language_model(options.model)
    ranker = PromptedRanker(config, base=asked.model, chooser=chooser).adopt(asked.domain)
    source = Source("ml-100k", asked.tables, asked.split, asked.domain, ranker)
    gender = dict(zip(asked.tables.users["user_id"], asked.tables.users["gender"], strict=True))
    declared = [gender.get(user) for user in asked.split.train.user_ids]
    plan = ProbePlan(attribute="gender", people=options.users)
    for found in probed(source, plan, Asking(10, 0.95, 1000, options.seed), declared):
        show_probe(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "quality", "attacks", "probe"])
    parser.add_argument("--model", help="hf:… or gguf:…")
    parser.add_argument("--state", type=Path, help="folder of answers")
    parser.add_argument("--arms", default="zero-shot")
    parser.add_argument("--users", type=int, default=5)
    parser.add_argument("--validate", type=int, default=100)
    parser.add_argument("--candidates", type=int, default=100, help="how many of EASE's best")
    parser.add_argument("--weight", type=float, default=0.2, help="probe: of the model's word")
    parser.add_argument("--listwise", action="store_true", help="attacks: also on choices")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    {"speed": speed, "quality": quality, "attacks": attacks, "probe": probe}[options.what](options)


if __name__ == "__main__":
    main()
