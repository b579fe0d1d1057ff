"""How long the bootstrap of an audit takes, against a loop over fairlearn's own.

    python bench/audit_speed.py --users 1000000

Values of made-up people, in 40 cells. Ours draws all metrics and cells at once; fairlearn's ``MetricFrame`` is asked
for a few draws on the same people, and its time per draw is scaled. Means of both are compared.
"""

from __future__ import annotations

import argparse
import os
import resource
import time

import numpy as np
from fairlearn.metrics import MetricFrame

from koinon.fairness.moments import moments_of
from koinon.fairness.resampling import bootstrap_means


def mean(_true: np.ndarray, _predicted: np.ndarray, values: np.ndarray) -> float:
    return float(values.mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--metrics", type=int, default=20)
    parser.add_argument("--cells", type=int, default=40)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--theirs", type=int, default=2, help="Draws of fairlearn's; 0: leave it out.")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    cell = rng.integers(0, given.cells, given.users)
    values = rng.random((given.users, given.metrics)) * (rng.random((given.users, given.metrics)) < 0.3)
    began, used = time.perf_counter(), time.process_time()
    drawn = bootstrap_means(
        values, [cell], [given.cells], np.zeros(given.users, dtype=np.int64), draws=given.draws, seed=0
    )[0]
    moments = moments_of(values, cell, given.cells)
    seconds, cpu = time.perf_counter() - began, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    off = np.abs(drawn.std(axis=0) / np.sqrt(moments.variances / moments.n) - 1)
    print(f"{given.users:,} users, {given.metrics} metrics, {given.cells} cells, {given.draws} draws")
    print(f"ours: {seconds:.1f} s ({cpu:.1f} s of CPU on {os.cpu_count()} cores), peak {peak:.2f} GiB")
    print(f"its standard errors differ from the analytic ones by {off.mean():.1%} on average, {off.max():.1%} at most")
    if given.theirs:
        names = [f"m{place}" for place in range(given.metrics)]
        nothing = np.zeros(given.users)
        began = time.perf_counter()
        frame = MetricFrame(
            metrics=dict.fromkeys(names, mean),
            y_true=nothing,
            y_pred=nothing,
            sensitive_features=cell,
            sample_params={name: {"values": values[:, place]} for place, name in enumerate(names)},
            n_boot=given.theirs,
            ci_quantiles=[0.025, 0.975],
            random_state=0,
        )
        theirs = (time.perf_counter() - began) / (given.theirs + 1) * given.draws
        same = np.abs(frame.by_group.to_numpy(dtype=float) - moments.means).max()
        print(f"fairlearn: {theirs:,.0f} s for as many draws, scaled from {given.theirs}; {theirs / seconds:.0f} times")
        print(f"largest difference of means: {same:.1e}")


if __name__ == "__main__":
    main()
