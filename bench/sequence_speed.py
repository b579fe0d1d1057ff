"""Training tokens a second, latency of scoring and peak memory of the sequence models, on one machine in one run.

    python bench/sequence_speed.py [--lengths 50,200,1000,4000] [--width 50] [--device cpu] [--precision float32|bf16]
        [--candidates 1,100,10000,100000] [--items 1000,10000,100000] [--users 64,256,1024] [--seconds 4] [--threads N]
        [--only train,score,growth] [--cpu-time] [--json FILE] [--recbole PYTHON]

Every model has the same width, blocks, batch (``--tokens`` rows) and loss. ``softmax`` is the plain transformer most
people run: PyTorch's own attention on padded sequences. *jagged*: lengths drawn as in rating data (log-normal, cut at
the limit); *padded*: the same sequences filled up to the limit with a dummy item. Tokens are real ones in both.
Growth is fitted over history length, over items of the catalogue (one step) and over users (an epoch in batches of 128,
length 200): the exponent of the time, by least squares on logarithms.

Each measurement runs in a process of its own, so that its peak memory is its own. On a machine that others use,
``--cpu-time`` divides by processor seconds of one thread in place of seconds on the wall.

``--recbole PYTHON`` names the interpreter of an environment with recbole installed: its SASRec at its defaults is then
timed there on as many epochs of the same synthetic sequences (one target per prefix; the tokens counted are prefixes'
targets), and this program needs nothing of it otherwise.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from koinon.recommenders.protocol import Request
from koinon.recommenders.sequential import HSTUConfig, SASRecConfig
from koinon.recommenders.sequential._hstu import HSTUNetwork
from koinon.recommenders.sequential._sasrec import SASRecNetwork
from koinon.recommenders.sequential.cached import HistoryCache
from koinon.recommenders.sequential.histories import Batch, batch_of, history_of
from koinon.recommenders.sequential.items import IdItems
from koinon.recommenders.sequential.jagged import Layout
from koinon.recommenders.sequential.network import SequenceNetwork

ITEMS = 3706
BATCH = 128
RECBOLE = """
import sys, time, torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.model.sequential_recommender import SASRec
from recbole.trainer import Trainer
folder, length, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(threads)
config = Config(model="SASRec", dataset="bench", config_dict=dict(
    data_path=folder, MAX_ITEM_LIST_LENGTH=length, epochs=1, show_progress=False, use_gpu=torch.cuda.is_available(),
    USER_ID_FIELD="user_id", ITEM_ID_FIELD="item_id", TIME_FIELD="timestamp", train_neg_sample_args=None,
    load_col={"inter": ["user_id", "item_id", "timestamp"]}, eval_args=dict(
        split={"LS": "valid_and_test"}, order="TO", group_by="user", mode="full")))
data = create_dataset(config)
train, _, _ = data_preparation(config, data)
model = SASRec(config, train.dataset).to(config["device"])
trainer = Trainer(config, model)
begun = time.perf_counter()
trainer._train_epoch(train, 0, show_progress=False)
print("SECONDS", time.perf_counter() - begun, len(train.dataset))
"""


class PlainTransformer(SequenceNetwork):
    """Causal softmax attention on padded sequences, as PyTorch gives it; the rest as SASRec."""

    def __init__(self, config: SASRecConfig, items: IdItems, *, timed: bool) -> None:
        super().__init__(config, items, timed=timed)
        self.inner = SASRecNetwork(config, items, timed=timed)

    def forward(self, batch: Batch) -> torch.Tensor:
        length = int(batch.layout.lengths.max())
        rows = self.embed(batch.items, batch.layout.positions, None)
        for block in self.inner.blocks:
            projected = block.project(block.before_attention(rows)).view(-1, length, 3, block.heads, self._head(block))
            q, k, v = projected.permute(2, 0, 3, 1, 4)
            attended = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            rows = rows + block.dropout(block.join(attended.transpose(1, 2).reshape(rows.shape)))
            rows = rows + block.dropout(block.layer(block.before_layer(rows)))
        return self.finish(self.inner.norm(rows))

    def _head(self, block: Any) -> int:
        return self.config.width // block.heads


def build(model: str, options: argparse.Namespace, length: int, catalogue: int = ITEMS) -> SequenceNetwork:
    torch.manual_seed(0)
    settings = {
        "length": length,
        "width": options.width,
        "blocks": options.blocks,
        "heads": options.heads,
        "precision": options.precision,
        "compile": options.compile,
        "loss": options.loss,
    }
    items = IdItems(catalogue, options.width)
    if model == "hstu":
        network: SequenceNetwork = HSTUNetwork(HSTUConfig(**settings, ranking_negatives=1), items, timed=True)
    elif model == "sasrec":
        network = SASRecNetwork(SASRecConfig(**settings), items, timed=True)
    else:
        network = PlainTransformer(SASRecConfig(**settings), items, timed=True)
    if isinstance(network, HSTUNetwork) and options.what == "train":
        network.rank = None
    return network.to(options.device)


def synthetic(
    length: int, tokens: int, padded: bool, device: torch.device, *, items: int = ITEMS, users: int = 0, seed: int = 0
) -> tuple[Batch, int]:
    """A batch of about so many real tokens, or of so many users, and its number of real tokens."""
    rng = np.random.default_rng(seed)
    lengths: list[int] = []
    while len(lengths) < users if users else sum(lengths) < tokens:
        # median at 0.48 of the limit, a quarter at it: MovieLens 1M at 200
        lengths.append(int(np.clip(rng.lognormal(math.log(0.48 * length), 0.95), 1, length)))
    real = np.array(lengths)
    filled = np.full_like(real, length) if padded else real
    rows = int(filled.sum())
    times = np.concatenate([np.cumsum(rng.integers(1, 10_000, size=n)) for n in filled])
    mask = np.concatenate([np.arange(n) < r for n, r in zip(filled, real, strict=True)])
    put = [torch.from_numpy(a).to(device) for a in (rng.integers(items, size=rows), times, times + 60, mask)]
    layout = Layout(filled, device, put[1], put[2])
    targets = torch.from_numpy(rng.integers(items, size=rows)).to(device)
    batch = Batch(put[0], layout, put[1], put[2], None, targets)
    batch.__dict__["real"] = put[3]
    return batch, int(real.sum())


def seconds_of(work: Callable[[], object], options: argparse.Namespace) -> float:
    """Median seconds of one call."""
    clock = time.process_time if options.cpu_time else time.perf_counter
    sync = torch.cuda.synchronize if options.device.type == "cuda" else lambda: None
    for _ in range(2):
        work()
    sync()
    taken: list[float] = []
    begun = time.perf_counter()
    while len(taken) < 3 or time.perf_counter() - begun < options.seconds:
        start = clock()
        work()
        sync()
        taken.append(clock() - start)
    return float(np.median(taken))


def peak(device: torch.device) -> float:
    """MiB: of the process, or of the GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def training(
    model: str, length: int, padded: bool, items: int, users: int, options: argparse.Namespace
) -> dict[str, Any]:
    """One step on ``--tokens`` rows, or an epoch over so many users."""
    network = build(model, options, length, items).train()
    sizes = [min(BATCH, users - first) for first in range(0, users, BATCH)] or [0]
    given = [
        synthetic(length, max(options.tokens, 2 * length), padded, options.device, items=items, users=size, seed=seed)
        for seed, size in enumerate(sizes)
    ]
    tokens = sum(count for _, count in given)
    optimiser = torch.optim.AdamW(network.parameters(), fused=True)
    before = peak(options.device)

    def epoch() -> None:
        for batch, _ in given:
            step(batch)

    def step(batch: Batch) -> None:
        real = batch.__dict__["real"]
        with torch.autocast(options.device.type, torch.bfloat16, enabled=options.precision == "bf16"):
            if padded:
                rows = network(batch)[real]
                kept = Batch(batch.items, batch.layout, None, None, None, batch.targets[real])
                loss = network.next_item_loss(rows, kept)
            else:
                loss = network.loss(batch)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    seconds = seconds_of(epoch, options)
    form = "padded" if padded else "jagged"
    return {
        "model": model,
        "length": length,
        "form": form,
        "items": items,
        "users": users,
        "tokens_per_second": tokens / seconds,
        "ms": 1000 * seconds,
        "peak_MiB": peak(options.device),
        "peak_above_start_MiB": peak(options.device) - before,
    }


def scoring(length: int, candidates: list[int], options: argparse.Namespace) -> list[dict[str, Any]]:
    """One person with a full history: retrieval by product, and target-aware scoring with and without the cache."""
    network = build("hstu", options, length).eval()
    assert isinstance(network, HSTUNetwork)
    rng = np.random.default_rng(0)
    history = rng.integers(ITEMS, size=length).astype(np.int32)
    request = Request(history=history, times=np.arange(length) * 60_000, time=length * 60_000)

    def read() -> torch.Tensor:
        batch = batch_of([history_of(request, ITEMS, length, timed=True)], options.device, timed=True, own_clock=False)
        with torch.inference_mode():
            return network(batch)[-1]

    def retrieve(many: torch.Tensor) -> Callable[[], torch.Tensor]:
        return lambda: many @ read()

    one_pass = seconds_of(read, options)
    cache = HistoryCache(network, request, options.device)
    rows = []
    for count in candidates:
        table = nn.functional.normalize(torch.randn(count, options.width, device=options.device), dim=1)
        wanted = rng.integers(ITEMS, size=count)
        cached = seconds_of(lambda wanted=wanted: cache.rank(wanted), options)
        once = seconds_of(lambda wanted=wanted: HistoryCache(network, request, options.device).rank(wanted), options)
        rows.append(
            {
                "length": length,
                "candidates": count,
                "history_pass_ms": 1000 * one_pass,
                "retrieval_ms": 1000 * seconds_of(retrieve(table), options),
                "target_aware_cached_ms": 1000 * cached,
                "target_aware_with_reading_ms": 1000 * once,
                "target_aware_each_alone_ms": 1000 * one_pass * count,
                "history_passes": cached / one_pass,
                "bound": 1.3 * count / length,
                "peak_MiB": peak(options.device),
            }
        )
    return rows


def recbole(python: str, length: int, options: argparse.Namespace) -> dict[str, Any]:
    """RecBole's SASRec on sequences of the same lengths, one epoch, in its own environment."""
    batch, tokens = synthetic(length, 4 * max(options.tokens, 2 * length), False, torch.device("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench" / "bench.inter"
        path.parent.mkdir()
        user = np.repeat(np.arange(len(batch.layout.lengths)), batch.layout.lengths)
        lines = (f"{u}\t{i}\t{t}" for u, i, t in zip(user, batch.items.tolist(), batch.times.tolist(), strict=True))
        path.write_text("user_id:token\titem_id:token\ttimestamp:float\n" + "\n".join(lines) + "\n")
        command = [python, "-c", RECBOLE, folder, str(length), str(torch.get_num_threads())]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    told = [line.split() for line in done.stdout.splitlines() if line.startswith("SECONDS")]
    if not told:
        raise SystemExit(f"recbole did not run:\n{done.stderr[-2000:]}")
    seconds, targets = float(told[0][1]), int(told[0][2])
    return {
        "model": "recbole sasrec",
        "length": length,
        "form": "prefixes",
        "tokens_per_second": targets / seconds,
        "ms": 1000 * seconds,
        "tokens": tokens,
    }


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a call in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_with_threads, (function, arguments))


def _with_threads(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    torch.set_num_threads(arguments[-1].threads)
    return function(*arguments)


def exponent(sizes: list[float], costs: list[float]) -> str:
    """Of the power of size with which cost grows, by least squares on logarithms."""
    return f"{np.polyfit(np.log(sizes), np.log(costs), 1)[0]:+.2f}" if len(sizes) > 1 else "?"


def growths(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Training at length 200 over catalogues and over numbers of users, and retrieval over the catalogue."""
    results = []
    for what, sizes in (("items", options.items), ("users", options.users)):
        counts = [int(size) for size in sizes.split(",")]
        for model in (model for model in options.models.split(",") if model != "softmax"):
            rows = []
            for count in counts:
                items, users = (count, 0) if what == "items" else (ITEMS, count)
                rows.append(apart(training, model, 200, False, items, users, options))
                print(
                    f"{model:16}{what:>8}{count:>10,}{rows[-1]['ms']:12.1f} ms{rows[-1]['peak_MiB']:10.0f} MiB",
                    flush=True,
                )
            grown = exponent(counts, [row["ms"] for row in rows])
            print(f"{'':16}time grows with {what} to the power {grown}", flush=True)
            results += [{**row, "over": what, "exponent": grown} for row in rows]
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", default="50,200,1000,4000")
    parser.add_argument("--models", default="hstu,sasrec,softmax")
    parser.add_argument("--candidates", default="1,100,10000,100000")
    parser.add_argument("--width", type=int, default=50)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--heads", type=int, default=1)
    parser.add_argument(
        "--tokens", type=int, default=4096, help="real tokens of a batch, at least two sequences' worth"
    )
    parser.add_argument("--loss", default="sampled", choices=("sampled", "full", "bce"))
    parser.add_argument("--precision", default="float32", choices=("float32", "bf16"))
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--device", default="cpu", type=torch.device)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cpu-time", action="store_true", help="processor seconds of one thread, not seconds")
    parser.add_argument("--seconds", type=float, default=4.0, help="spent on each measurement at least")
    parser.add_argument("--items", default="1000,10000,100000", help="catalogues over which growth is fitted")
    parser.add_argument("--users", default="64,256,1024", help="numbers of users over which growth is fitted")
    parser.add_argument("--only", default="train,score,growth")
    parser.add_argument("--recbole", metavar="PYTHON")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    if options.cpu_time:
        options.threads = 1
    lengths = [int(length) for length in options.lengths.split(",")]
    clock = "processor" if options.cpu_time else "wall"
    machine = torch.cuda.get_device_name() if options.device.type == "cuda" else f"cpu, {options.threads} threads"
    print(
        f"{machine}, {options.precision}, width {options.width}, {options.blocks} blocks, loss {options.loss}, {clock}"
    )
    only = set(options.only.split(","))
    results: dict[str, Any] = {"machine": machine, "options": " ".join(sys.argv[1:]), "load": os.getloadavg()}
    results |= {"training": [], "scoring": [], "growth": []}
    print("load of the machine over 1, 5, 15 minutes: " + ", ".join(f"{load:.1f}" for load in results["load"]))
    if "train" in only:
        options.what = "train"
        print(f"{'model':16}{'length':>8}{'form':>10}{'tokens/s':>12}{'ms/step':>10}{'peak MiB':>10}{'above':>8}")
        for model in options.models.split(","):
            for form in ("jagged", "padded") if model != "softmax" else ("padded",):
                rows = []
                for length in lengths:
                    row = apart(training, model, length, form == "padded", ITEMS, 0, options)
                    rows.append(row)
                    print(
                        f"{model:16}{length:8}{form:>10}{row['tokens_per_second']:12,.0f}{row['ms']:10.1f}"
                        f"{row['peak_MiB']:10.0f}{row['peak_above_start_MiB']:8.0f}",
                        flush=True,
                    )
                results["training"] += rows
                grown = exponent(lengths, [1 / row["tokens_per_second"] for row in rows])
                print(f"{'':16}cost of a token grows with length to the power {grown}")
        for length in lengths if options.recbole else []:
            row = recbole(options.recbole, length, options)
            results["training"].append(row)
            print(f"{row['model']:16}{length:8}{row['form']:>10}{row['tokens_per_second']:12,.0f}{row['ms']:10.1f}")
    if "score" in only:
        options.what = "score"
        print(f"\n{'length':>6}{'candidates':>12}{'pass ms':>9}{'retrieval':>11}{'cached':>9}{'+ reading':>11}"
              f"{'each alone':>12}{'passes':>9}{'bound':>9}{'peak MiB':>10}")  # fmt: skip
        for length in lengths:
            for row in apart(scoring, length, [int(n) for n in options.candidates.split(",")], options):
                results["scoring"].append(row)
                print(
                    f"{length:6}{row['candidates']:12,}{row['history_pass_ms']:9.2f}{row['retrieval_ms']:11.2f}"
                    f"{row['target_aware_cached_ms']:9.2f}{row['target_aware_with_reading_ms']:11.2f}"
                    f"{row['target_aware_each_alone_ms']:12,.0f}{row['history_passes']:9.2f}{row['bound']:9.2f}{row['peak_MiB']:10.0f}",
                    flush=True,
                )
    if "growth" in only:
        options.what = "train"
        print(f"\n{'model':16}{'over':>8}{'size':>10}{'a step, or an epoch over the users':>38}")
        results["growth"] = growths(options)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
