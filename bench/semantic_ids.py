"""Semantic ids on the demo's partners: one codebook for all, fitted from sums, against each partner's own.

    python bench/semantic_ids.py --shapes 3x64,3x256,4x256 --out semantic-ids.json

For every partner: items that share all their words, how evenly words are used, and how well neighbours keep together.
Catalogues are those of the training split, vectors come from the cache. Prints one table a shape.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from koinon.config import write_atomically
from koinon.data import make_split
from koinon.data.public import DEMO_PARTNERS, demo_split_config, demo_tables
from koinon.recommenders.federated.codebook import CodebookPlan, FederatedCodebook, codebook_of
from koinon.recommenders.federated.totals import add_up
from koinon.space import Space, open_space
from koinon.space.code_quality import CodeQuality, code_quality
from koinon.space.codebook import Codebook, CodebookConfig, fit_codebook


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
    parser.add_argument("--out", type=Path, default=Path("semantic-ids.json"))
    asked = parser.parse_args(argv)
    space, protocol = open_space(), demo_split_config()
    names = asked.partners.split(",")
    domains = {name: make_split(name, demo_tables(name, full=False), protocol).train for name in names}
    vectors = {name: space.encode(domain.texts) for name, domain in domains.items()}
    results = []
    for shape in asked.shapes.split(","):
        levels, codes = map(int, shape.split("x"))
        config = CodebookConfig(levels=levels, codes=codes)
        began = time.process_time()
        shared = federate(domains, space, config, asked.seed)
        print(f"\n{shape}, {config.rounds} rounds, {time.process_time() - began:.0f} s of one core for all partners")
        print(HEAD)
        for name in names:
            own = fit_codebook(vectors[name], config, seed=asked.seed)
            for kind, codebook in (("shared", shared), ("own", own)):
                found = code_quality(vectors[name], codebook, asked.neighbours)
                language = DEMO_PARTNERS[name].language
                results.append({"shape": shape, "partner": name, "language": language, "kind": kind, **asdict(found)})
                print(line(name, language, kind, found), flush=True)
    write_atomically(asked.out, json.dumps({"seed": asked.seed, "rows": results}, indent=1))


HEAD = "partner | language | codebook | items | collide | same text | perplexity | error | together (at random) | kept"


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
