"""The audit's figures against fairlearn, aif360, statsmodels and SciPy on the same made-up people.

    python -m bench.audit_oracles --environment oracles-env

The libraries live in an environment of their own, made on the first call. Prints what was compared and how far apart it
is; leaves with 1 if anything is farther than 1e-9 (rounding). Which metric has which oracle, hand-computed cases among
them, is in docs/audit.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from koinon.fairness.entropy import generalised_entropy
from koinon.fairness.frames import label_differences
from koinon.fairness.lists import divergence_js, divergence_kl
from koinon.fairness.moments import moments_of
from koinon.fairness.verdicts import adjust

LIBRARIES = ("aif360==0.6.1", "fairlearn==0.15.0", "statsmodels==0.15.0")
ALLOWED = 1e-9


def people(seed: int, count: int = 4000, groups: int = 6) -> dict[str, Any]:
    """Values as NDCG gives them, labels, lists, and p-values."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, groups, count)
    hit = rng.random(count) < 0.2 + 0.05 * group
    values = hit / np.log2(2 + rng.integers(0, 10, count))
    liked = rng.random(count) < 0.5 + 0.03 * group
    listed = rng.random(count) < np.where(liked, 0.3, 0.1) + 0.02 * group
    shares = rng.dirichlet(np.full(8, 0.5), (2, 40))
    return {
        "group": group.tolist(),
        "two": (group > 2).astype(int).tolist(),
        "values": values.tolist(),
        "liked": liked.astype(int).tolist(),
        "listed": listed.astype(int).tolist(),
        "p": (rng.random(40) ** 3).tolist(),
        "shares": shares.tolist(),
    }


def ours(given: dict[str, Any]) -> dict[str, Any]:
    """The same figures by Koinon, under the names of the other side."""
    group, values = np.array(given["group"]), np.array(given["values"])
    liked, listed = np.array(given["liked"]).astype(bool), np.array(given["listed"]).astype(bool)
    means = moments_of(values[:, None], group, int(group.max()) + 1).means[:, 0]
    every, pair = (label_differences(liked, listed, np.array(given[by]).astype(str)) for by in ("group", "two"))

    def entropy_of(one: np.ndarray, by: np.ndarray) -> tuple[float, float]:
        found = moments_of(one[:, None], by, int(by.max()) + 1)
        return generalised_entropy(found.n[:, 0], found.total[:, 0], found.squares[:, 0])

    benefits = entropy_of(1.0 + listed - liked, np.array(given["two"]))
    p, q = np.array(given["shares"])
    rates = {
        "demographic parity": "demographic_parity_difference",
        "equal opportunity": "equal_opportunity_difference",
        "equalised odds": "equalized_odds_difference",
    }
    return {
        "fairlearn: means by group": means.tolist(),
        "fairlearn: largest difference": means.max() - means.min(),
        "fairlearn: smallest over largest": means.min() / means.max(),
        **{f"fairlearn: {said}": every[name] for said, name in rates.items()},
        "aif360: generalised entropy of values": entropy_of(values, group)[0],
        "aif360: generalised entropy of benefits": benefits[0],
        "aif360: entropy of benefits between groups": benefits[1],
        "aif360: demographic parity, two groups": pair["demographic_parity_difference"],
        "aif360: equal opportunity, two groups": pair["equal_opportunity_difference"],
        "statsmodels: Holm": adjust(given["p"], primary=True),
        "statsmodels: Benjamini and Hochberg": adjust(given["p"], primary=False),
        "scipy: KL of smoothed shares": divergence_kl(p, q).tolist(),
        "scipy: JS of shares": divergence_js(p, q).tolist(),
    }


def make_environment(folder: Path) -> Path:
    """The interpreter of an environment with the other libraries."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *LIBRARIES], check=True)
    return python


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environment", type=Path, required=True, help="folder of the other libraries' environment")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    given = people(options.seed)
    python = make_environment(options.environment)
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "given.json").write_text(json.dumps(given))
        subprocess.run([str(python), str(Path(__file__).with_name("oracles_side.py")), place], check=True)
        theirs = json.loads((Path(place) / "found.json").read_text())
    mine = ours(given)
    assert mine.keys() == theirs.keys(), mine.keys() ^ theirs.keys()
    agrees = True
    for name, found in theirs.items():
        apart = float(np.abs(np.subtract(mine[name], found)).max())
        agrees &= apart <= ALLOWED
        print(f"{name:<46} apart {apart:.1e}  {'agrees' if apart <= ALLOWED else 'DIFFERS'}")
    return 0 if agrees else 1


if __name__ == "__main__":
    sys.exit(main())
