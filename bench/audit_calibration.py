"""How often an audit is wrong: simulated audits of people whose true figures are known.

    python bench/audit_calibration.py --audits 500

Each simulated audit asks three primary questions (two groups; seven groups; twelve small crossed cells) about values as
NDCG@10 gives them with one held-out item: mostly 0, else a discount. Printed are the shares of audits with any question
wrongly failed or any wrongly passed, how often the interval holds the true gap, and verdicts under a planted gap.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.stats import beta

from koinon.fairness.gaps import gap_of, permutation_p
from koinon.fairness.moments import moments_of
from koinon.fairness.resampling import bootstrap_means, permuted_moments
from koinon.fairness.verdicts import VERDICTS, adjust, judge

QUESTIONS = {
    "2 groups": (600, 1400),
    "7 groups": (150, 300, 500, 300, 250, 300, 200),
    "12 cells": (25,) * 6 + (60,) * 6,
}
MEAN, TOLERANCE = 0.14, 0.05
GAINS = 1 / np.log2(np.arange(2, 12))


def values(rng: np.random.Generator, mean: np.ndarray) -> np.ndarray:
    hit = rng.random(len(mean)) < mean / GAINS.mean()
    return (hit * GAINS[rng.integers(0, 10, len(mean))])[:, None]


def ask(rng: np.random.Generator, sizes: tuple[int, ...], planted: float, seed: int, draws: int):
    """One question; the last group's mean is lower by ``planted``. Interval and p-value."""
    group = np.repeat(np.arange(len(sizes)), sizes)
    seen_values = values(rng, np.where(group == len(sizes) - 1, MEAN - planted, MEAN))
    seen = moments_of(seen_values, group, len(sizes))
    nobody = np.zeros(len(group), dtype=np.int64)
    drawn = bootstrap_means(seen_values, [group], [len(sizes)], nobody, draws=draws, seed=seed)[0][:, :, 0]
    means, errors, freedom = (part[:, 0] for part in (seen.means, seen.errors, seen.freedom))
    gap = gap_of(means, errors, freedom, drawn - means, seed=seed)
    null = permuted_moments(seen_values, group, len(sizes), nobody, draws=draws, seed=seed)
    return gap, permutation_p(means, errors, null.means[..., 0], null.errors[..., 0])[0]


def audit(rng: np.random.Generator, planted: float, seed: int, draws: int):
    found = [ask(rng, sizes, planted, seed, draws) for sizes in QUESTIONS.values()]
    adjusted = adjust([p for _, p in found], primary=True)
    return [
        (gap, p, judge(TOLERANCE, gap.lo, gap.hi, p, complete=True)[0])
        for (gap, _), p in zip(found, adjusted, strict=True)
    ]


def share(count: int, of: int) -> str:
    upper = beta.ppf(0.95, count + 1, of - count) if count < of else 1.0
    return f"{count / of:.3f} (95 % upper bound {upper:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audits", type=int, default=500)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    for planted in (0.0, 0.025, 0.05, 0.075, 0.1):
        audits = [audit(rng, planted, seed, given.draws) for seed in range(given.audits)]
        held = np.mean([[gap.lo <= planted <= gap.hi for gap, *_ in one] for one in audits], axis=0)
        alarms = sum(any(p < 0.05 for _, p, _ in one) for one in audits)
        wrong_fail = sum(any(v == "fail" for *_, v in one) for one in audits) if planted <= TOLERANCE else None
        wrong_pass = sum(any(v == "pass" for *_, v in one) for one in audits) if planted > TOLERANCE else None
        print(
            f"planted gap {planted:.3f}, tolerance {TOLERANCE}, {given.audits} audits of {len(QUESTIONS)} questions",
            flush=True,
        )
        print(f"  any adjusted p < .05: {share(alarms, given.audits)}")
        if wrong_fail is not None:
            print(f"  any question wrongly failed: {share(wrong_fail, given.audits)}")
        if wrong_pass is not None:
            print(f"  any question wrongly passed: {share(wrong_pass, given.audits)}")
        for place, name in enumerate(QUESTIONS):
            said = ", ".join(f"{v} {np.mean([one[place][2] == v for one in audits]):.2f}" for v in VERDICTS)
            print(f"  {name:<9} interval holds {held[place]:.3f}; {said}")


if __name__ == "__main__":
    main()
