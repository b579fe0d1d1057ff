"""Semantic ids on the demo's partners: one codebook for all, fitted from sums, against each partner's own.

    python bench/semantic_ids.py --shapes 3x64,3x256,4x256 --out semantic-ids.json
    python bench/semantic_ids.py --shapes 3x64 --generate movies-drama --out generation.json

For every partner: items that share all their words, how evenly words are used, and how well neighbours keep together;
for pairs of partners whether words mean the same in both. *shared* is the federation's codebook, *centred* the same
where every partner takes the mean of its vectors off first, *own* the partner's. Catalogues are those of the training
split, vectors come from the cache. Prints two tables a shape. ``--generate`` does without them: it trains the
generative recommender on the partners named, with each of the three codebooks, and measures it on their test sets.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from koinon.config import write_atomically
from koinon.data import Domain, Split, make_split
from koinon.data.public import DEMO_PARTNERS, demo_split_config, demo_tables
from koinon.evaluation import evaluate
from koinon.evaluation.significance import paired_gain
from koinon.recommenders.federated.codebook import CodebookPlan, FederatedCodebook, codebook_of
from koinon.recommenders.federated.identities import identity_key
from koinon.recommenders.federated.totals import add_up
from koinon.recommenders.sequential import Generative, GenerativeConfig
from koinon.space import Space, open_space
from koinon.space.code_quality import CodeAgreement, CodeQuality, code_agreement, code_quality
from koinon.space.codebook import Codebook, CodebookConfig, fit_codebook

NETWORK = {"length": 50, "width": 64, "blocks": 2, "batch_users": 32, "learning_rate": 2e-3, "patience": 2,
           "validate_every": 2}  # fmt: skip


def federate(domains: dict, space: Space, config: CodebookConfig, seed: int) -> Codebook:
    """Run all rounds in this process, as a server would."""
    plan = CodebookPlan(config)
    release = plan.initial([], space, rng=np.random.default_rng(seed))
    for round_ in range(1, plan.rounds + 1):
        task = plan.task(release, round_)
        given = {}
        for name, domain in domains.items():
            learner = FederatedCodebook(config)
            learner.attach(domain, space)
            given[name] = learner.contribute(domain, release, task)
        release = plan.aggregate(release, add_up(task.specs, given))
    return codebook_of(release)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--partners", default=",".join(DEMO_PARTNERS))
    parser.add_argument("--shapes", default="3x64,3x256,4x256", help="levels x codes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--neighbours", type=int, default=10)
    parser.add_argument("--generate", default="", help="partners on which the generative recommender is measured")
    parser.add_argument("--epochs", type=int, default=16, help="of that recommender, at most")
    parser.add_argument("--out", type=Path, default=Path("semantic-ids.json"))
    asked = parser.parse_args(argv)
    space, protocol = open_space(), demo_split_config()
    names = asked.partners.split(",")
    splits = {name: make_split(name, demo_tables(name, full=False), protocol) for name in names}
    domains = {name: split.train for name, split in splits.items()}
    vectors = {name: space.encode(domain.texts) for name, domain in domains.items()}
    results, agreements, generated = [], [], []
    for shape in asked.shapes.split(","):
        levels, codes = map(int, shape.split("x"))
        config = CodebookConfig(levels=levels, codes=codes, centred=False)
        began = time.process_time()
        shared = {
            kind: federate(domains, space, config.model_copy(update={"centred": kind == "centred"}), asked.seed)
            for kind in ("shared", "centred")
        }
        seconds = (time.process_time() - began) / 2
        print(f"\n{shape}, {config.rounds} rounds, {seconds:.0f} s of one core for all partners")
        for name in filter(None, asked.generate.split(",")):
            generated += generate(name, splits[name], space, {**shared, "own": None}, config, asked)
        if asked.generate:
            continue
        print(HEAD)
        for name in names:
            own = fit_codebook(vectors[name], config, seed=asked.seed)
            for kind, codebook in (*shared.items(), ("own", own)):
                found = code_quality(vectors[name], codebook.around(vectors[name]), asked.neighbours)
                language = DEMO_PARTNERS[name].language
                results.append({"shape": shape, "partner": name, "language": language, "kind": kind, **asdict(found)})
                print(line(name, language, kind, found), flush=True)
        print(AGREEMENT)
        for one, other in combinations(names, 2):
            works = equal_works(domains[one], domains[other])
            for kind, codebook in shared.items():
                pair = [(vectors[name], codebook.around(vectors[name]).encode(vectors[name])) for name in (one, other)]
                agreed = code_agreement(*pair[0], *pair[1], works)
                agreements.append({"shape": shape, "partners": [one, other], "kind": kind, **asdict(agreed)})
                print(agreement_line(one, other, kind, agreed), flush=True)
    found = {"seed": asked.seed, "rows": results, "agreement": agreements, "generation": generated}
    write_atomically(asked.out, json.dumps(found, indent=1))


def generate(
    name: str,
    split: Split,
    space: Space,
    codebooks: Mapping[str, Codebook | None],
    shape: CodebookConfig,
    asked: argparse.Namespace,
) -> list[dict[str, Any]]:
    """The generative recommender over each codebook, early-stopped on validation; paired gains over the first."""
    results: list[dict[str, Any]] = []
    for kind, codebook in codebooks.items():
        model = Generative(
            GenerativeConfig(**NETWORK, epochs=asked.epochs, code_levels=shape.levels, code_words=shape.codes)
        )
        model.codebook = codebook
        model.fit(split.train, space, rng=np.random.default_rng(asked.seed), validation=split.validation)
        assert model.training is not None
        values = evaluate(model, split.train, split.test, slices=("all",)).values()
        results.append({"partner": name, "kind": kind, "validation": model.training.best, "test": values.tolist()})
        gain = paired_gain(values, np.array(results[0]["test"]), seed=asked.seed)
        said = f"{gain.gain:+.4f} [{gain.lo:+.4f}, {gain.hi:+.4f}], p {gain.p:.3f}" if len(results) > 1 else ""
        print(
            f"{name}, {kind}: NDCG@10 validation {model.training.best:.4f}, test {values.mean():.4f} "
            f"({len(values):,} people); over the first {said}",
            flush=True,
        )
    return results


def equal_works(one: Domain, other: Domain) -> NDArray[np.int64]:
    """Rows of both catalogues that have the same title and creator, ``int64[pairs, 2]``."""
    keys = [
        {identity_key(*row): place for place, row in enumerate(each.items.select("title", "creator").rows())}
        for each in (one, other)
    ]
    return np.array([(keys[0][key], keys[1][key]) for key in keys[0] if key in keys[1]], np.int64).reshape(-1, 2)


HEAD = "partner | language | codebook | items | collide | same text | perplexity | error | together (at random) | kept"
AGREEMENT = "partners | codebook | equal works | of them with the same 1, 2, 3 words | nearest of the other (at random)"


def agreement_line(one: str, other: str, kind: str, found: CodeAgreement) -> str:
    same = " ".join(f"{value:.2f}" for value in found.same)
    near = " ".join(f"{value:.3f} ({chance:.3f})" for value, chance in zip(found.near, found.at_random, strict=True))
    return f"{one}, {other} | {kind} | {found.works:,} | {same} | {near}"


def line(name: str, language: str, kind: str, found: CodeQuality) -> str:
    used = " ".join(f"{value:.0f}" for value in found.perplexity)
    error = " ".join(f"{value:.2f}" for value in found.error)
    near = " ".join(
        f"{value:.2f} ({chance:.3f})" for value, chance in zip(found.together, found.at_random, strict=True)
    )
    return (
        f"{name} | {language} | {kind} | {found.items:,} | {found.collisions:.1%} | {found.same_text:.1%} |"
        f" {used} | {error} | {near} | {found.kept:.2f}"
    )


if __name__ == "__main__":
    main()
