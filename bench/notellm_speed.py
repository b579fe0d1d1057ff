"""Texts encoded and pairs trained per second against sentence-transformers: same weights, same texts, same batches.

    python -m bench.notellm speed --bench-data DIR --state DIR [--dataset books] [--pairs 256] [--passes 4]
        [--dtype bfloat16] [--first-layer 3]

Both sides run in processes of their own with one thread; seconds are of the processor, so that a machine that does
other work changes them little. Without ``--sentence-transformers`` an environment is made in the state folder that
shares this one's torch and transformers.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import sysconfig
import time
import venv
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.notellm import split_of
from koinon.config import write_atomically
from koinon.recommenders.serial.notellm import LearnerConfig, PairLearner, co_occurrences
from koinon.space import open_encoder
from koinon.space.encoders import parse_uri
from koinon.space.lora import LoraSettings
from koinon.space.transformer import locate
from koinon.space.tuned import CompressionConfig, TextNetwork

NEEDS = "sentence-transformers==6.2.0"
LAYERS = 6
MAX_LENGTH = 64


def environment(state: Path) -> str:
    """The interpreter of an environment with sentence-transformers that shares this one's other packages."""
    folder = state / "sentence-transformers"
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        (place,) = folder.glob("lib/python*/site-packages")
        (place / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", NEEDS], check=True)
    return str(python)


def ours(stream: dict[str, Any], cached: bool) -> dict[str, Any]:
    """The same figures of this project's encoder and learner."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    texts, size = stream["texts"], stream["batch"]
    config = CompressionConfig(
        text_tokens=stream["max_length"] - 2,
        dimension=None,
        lora=LoraSettings(rank=stream["rank"], alpha=stream["alpha"], first_layer=stream["first_layer"]),
    )
    encoder = open_encoder(f"minilm-english?max_length={stream['max_length']}&dtype={stream['dtype']}")
    encoder.encode(texts[:8])
    begun = time.process_time()
    encoder.encode(texts)
    encoded = len(texts) / (time.process_time() - begun)
    network = TextNetwork(encoder, config)
    begun = time.process_time()
    learner = PairLearner(network, texts, LearnerConfig(batch_pairs=size, cached_gradients=cached, keep_lower=True))
    tokens = time.process_time() - begun
    pairs = np.array(stream["pairs"])
    losses = []
    for number, start in enumerate(range(0, len(pairs), size)):
        if number == 1:
            begun = time.process_time()
        batch = pairs[start : start + size]
        losses.append(learner.step(batch[:, 0], batch[:, 1]))
    trained = (len(pairs) - size) / (time.process_time() - begun + tokens * (len(pairs) - size) / len(pairs))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    network.eval().merge()
    begun = time.process_time()
    network.encode(texts)
    adapted = len(texts) / (time.process_time() - begun)
    return {"texts": encoded, "adapted": adapted, "pairs": trained, "peak": peak, "losses": losses}


def speed(asked: argparse.Namespace) -> None:
    """Print a table of both sides."""
    if asked.sentence_transformers == "ours":  # this project's side, in a process of its own
        stream = json.loads((asked.state / "stream.json").read_text())
        print(json.dumps(ours(stream, asked.rows == "validation")))
        return
    split = split_of(asked)
    pairs = co_occurrences(split.train)
    rng = np.random.default_rng(0)
    drawn = rng.permutation(len(pairs))[: asked.pairs]
    drawn = np.concatenate([drawn, *(rng.permutation(drawn) for _ in range(asked.passes - 1))])
    stream = {
        "folder": str(locate(parse_uri("minilm-english"), "minilm-english").folder),
        "texts": list(split.train.texts),
        "pairs": np.column_stack((pairs.left, pairs.right))[drawn].tolist(),
        "batch": 64,
        "max_length": MAX_LENGTH,
        "rank": 8,
        "alpha": 16,
        "targets": rf".*\.layer\.({'|'.join(map(str, range(asked.first_layer, LAYERS)))})\..*(query|key|value|dense)",
        "first_layer": asked.first_layer,
        "dtype": asked.dtype,
    }
    used = sorted({item for pair in stream["pairs"] for item in pair})
    place = {item: number for number, item in enumerate(used)}
    stream["texts"] = [stream["texts"][item] for item in used]
    stream["pairs"] = [[place[a], place[b]] for a, b in stream["pairs"]]
    path = asked.state / "stream.json"
    write_atomically(path, json.dumps(stream))
    python = asked.sentence_transformers or environment(asked.state)
    here = [
        sys.executable,
        "-m",
        "bench.notellm",
        "speed",
        "--state",
        str(asked.state),
        "--sentence-transformers",
        "ours",
    ]
    sides = {
        "sentence-transformers": [python, str(Path(__file__).with_name("sentence_side.py")), str(path)],
        "Koinon": [*here, "--rows", "test"],
        "Koinon, cached gradients": [*here, "--rows", "validation"],
    }
    count = f"{asked.pairs} pairs, {asked.passes} times" if asked.passes > 1 else f"{asked.pairs} pairs"
    print(f"{len(stream['texts'])} texts, {count}, in batches of {stream['batch']}, one thread")
    print("| | texts/s, frozen | texts/s, tuned | pairs/s | peak MiB | loss, first and last batch |")
    print("|---|---|---|---|---|---|")
    for name, command in sides.items():
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        found = json.loads(done.stdout.splitlines()[-1])
        print(
            f"| {name} | {found['texts']:.0f} | {found['adapted']:.0f} | {found['pairs']:.1f} | {found['peak']:.0f} "
            f"| {found['losses'][0]:.3f}, {found['losses'][-1]:.3f} |",
            flush=True,
        )
