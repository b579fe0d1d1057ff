"""The click table on ML-1M by CTRL's protocol: every model, CTRL beside its own network, paired over people.

    python -m bench.ctr --out measured --seeds 1 --arms autoint-published,dcnv2,ctrl-dcnv2

The arm *drawn* is CTRL with a vector drawn for every text in place of the language model's: what is left of the gain
without any language. Settings lie in ``bench/configs/clicks``; they were chosen on validation. An arm that is trained
is not trained again, one that was interrupted goes on. Every call ends by writing ``ctr.md``. Test rows are read by
the arms asked for here.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from koinon.config import write_atomically
from koinon.data.public import get
from koinon.evaluation.clicks import click_gains
from koinon.recommenders.clicks import ClickData, NetworkConfig, click_data, train_clicks
from koinon.recommenders.clicks.keeping import load_clicks
from koinon.recommenders.clicks.training import click_config_type, kept_chances, serving
from koinon.space import Space, open_space

CONFIGS = Path(__file__).parent / "configs" / "clicks"


@dataclass(frozen=True)
class Arm:
    """A row of the table: its model, and the arm that it is held against."""

    model: str
    title: str
    against: str | None = None


ARMS = {
    "logistic": Arm("logistic", "logistic regression"),
    "trees": Arm("trees", "boosted trees"),
    "dcnv2-short": Arm("dcnv2", "DCNv2, settings as published, two epochs"),
    "ctrl-dcnv2-short": Arm("dcnv2", "CTRL on DCNv2, settings as published, two epochs", "dcnv2-short"),
    "ctrl-dcnv2-short-rows": Arm("dcnv2", "CTRL on DCNv2, two epochs, a row's own words alone", "dcnv2-short"),
    "ctrl-dcnv2-short-drawn": Arm("dcnv2", "CTRL on DCNv2, two epochs, drawn vectors", "dcnv2-short"),
    "autoint-short": Arm("autoint", "AutoInt, settings as published, two epochs"),
    "ctrl-autoint-short": Arm("autoint", "CTRL on AutoInt, settings as published, two epochs", "autoint-short"),
    "autoint-published": Arm("autoint", "AutoInt, settings as published"),
    "dcnv2-published": Arm("dcnv2", "DCNv2, settings as published"),
    "ctrl-dcnv2-published": Arm("dcnv2", "CTRL on DCNv2, settings as published", "dcnv2-published"),
    "deepfm": Arm("deepfm", "DeepFM"),
    "dcnv2": Arm("dcnv2", "DCNv2"),
    "autoint": Arm("autoint", "AutoInt"),
    "ctrl-dcnv2": Arm("dcnv2", "CTRL on DCNv2", "dcnv2"),
    "ctrl-dcnv2-drawn": Arm("dcnv2", "CTRL on DCNv2, drawn vectors", "dcnv2"),
    "ctrl-autoint": Arm("autoint", "CTRL on AutoInt", "autoint"),
}


def settings(name: str) -> Any:
    """What ``bench/configs/clicks`` holds for an arm, or the model's defaults."""
    kind, file = click_config_type(ARMS[name].model), CONFIGS / f"{name}.toml"
    return kind.from_toml(file) if file.exists() else kind()


class Drawn:
    """A space that knows no language: every text has a normal vector of its own."""

    dimension, fingerprint = 384, "drawn"

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """``float32[texts, 384]``."""
        seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") for text in texts]
        rows = [np.random.default_rng(seed).standard_normal(self.dimension) for seed in seeds]
        return np.array(rows, dtype=np.float32).reshape(-1, self.dimension)


def space_of(encoder: str) -> Space:
    """The space that an alignment names, or the drawn one."""
    return Drawn() if encoder == "drawn" else open_space(encoder)


def measure(name: str, seed: int, data: ClickData, out: Path) -> dict[str, Any]:
    """An arm's report, from disk where it is there."""
    folder = out / f"{name}-{seed}"
    report = folder / "report.json"
    if not report.exists():
        config = settings(name)
        told = config.alignment if isinstance(config, NetworkConfig) else None
        space = None if told is None else space_of(told.encoder)

        def say(standing: Any) -> None:
            if standing.epoch_over:
                print(
                    f"{name} {seed} {standing.phase} {standing.epoch}: {standing.metric}", file=sys.stderr, flush=True
                )

        found = train_clicks(ARMS[name].model, config, data, space, seed=seed, folder=folder, on_progress=say).report
        write_atomically(report, json.dumps(found, indent=2) + "\n")
    read: dict[str, Any] = json.loads(report.read_text())
    return read


def table(data: ClickData, out: Path, seeds: int) -> str:
    """Markdown of every arm and seed that is measured."""
    lines = [
        "| model | seed | AUC | GAUC | log loss | known people | new people | AUC over own network | ms p50 / p95 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, arm in ARMS.items():
        for seed in range(seeds):
            folder = out / f"{name}-{seed}"
            if not (folder / "report.json").exists():
                continue
            report = json.loads((folder / "report.json").read_text())
            figures = [cell(report["test"][metric]) for metric in ("auc", "gauc", "log_loss")]
            by_person = [f"{report['test_by_person'][who]['auc']:.4f}" for who in ("known", "new")]
            base = out / f"{arm.against}-{seed}"
            gained = ""
            if arm.against is not None and (base / "report.json").exists():
                ours, theirs = kept_chances(folder, data), kept_chances(base, data)
                gain = click_gains(data.test.label, ours, theirs, data.test.person)["auc"]
                gained = f"{gain.gain:+.4f} [{gain.lo:+.4f}, {gain.hi:+.4f}], p = {gain.p:.3f}"
            latency = f"{report['serving']['p50_ms']:.2f} / {report['serving']['p95_ms']:.2f}"
            lines.append(f"| {' | '.join([arm.title, str(seed), *figures, *by_person, gained, latency])} |")
    return "\n".join(lines) + "\n"


def latencies(data: ClickData, out: Path, rounds: int = 12) -> str:
    """Median milliseconds of CTRL and of its own network, asked by turns so that other work meets both alike."""
    said = []
    for name, arm in ARMS.items():
        folders = (out / f"{name}-0", out / f"{arm.against}-0")
        if arm.against is None or not all((folder / "clicks.json").exists() for folder in folders):
            continue
        models = [load_clicks(folder, data) for folder in folders]
        turns = [[serving(model, data, requests=30, seed=turn)["p50_ms"] for model in models] for turn in range(rounds)]
        ours, theirs = np.median(turns, axis=0)
        said.append(f"{arm.title}: {ours:.3f} ms for 100 candidates, its network alone {theirs:.3f} ms")
    return "\n".join(said) + "\n"


def cell(found: dict[str, float]) -> str:
    """A figure with its interval."""
    return f"{found['mean']:.4f} [{found['lo']:.4f}, {found['hi']:.4f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--arms", default=",".join(ARMS), help="as they stand in ARMS")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--latency", action="store_true", help="also ask CTRL and its own network by turns")
    arguments = parser.parse_args()
    data = click_data("ml-1m", get("ml-1m"))
    for name in arguments.arms.split(","):
        for seed in range(arguments.seeds):
            measure(name, seed, data, arguments.out)
    written = table(data, arguments.out, arguments.seeds)
    write_atomically(arguments.out / "ctr.md", written)
    print(written, end="")
    if arguments.latency:
        print(latencies(data, arguments.out), end="")


if __name__ == "__main__":
    main()
