"""How often an audit of a federation says what the audit of all rows says: over privacy budgets and group sizes.

    python bench/audit_federated.py

Each simulated audit asks one primary question, tolerance .05, about six groups of equal size at five partners; values
are as NDCG@10 gives them with one held-out item. Planted is that one group's mean is lower by 0, .05, .1 or .15. The
pooled audit has all rows: bootstrap, relabelling. The federated one has what partners send, with the budget's noise,
drawn and charged by the same code as in a round: sums of the question's groups alone, or of three more divisions beside
it. Under ``secure`` each partner adds its share of the noise (a minimum of five partners, of which ``privacy.honest``
says how many are taken for honest: half, or four of five), under ``local`` the whole. Printed: the share of verdicts
that are equal, and how often the federated audit decides (*fail*, *pass*) what the pooled one does not.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
from scipy.stats import beta

from koinon.fairness.federated.judging import judge_totals
from koinon.fairness.federated.layout import Layout
from koinon.fairness.federated.rounds import QUESTION, AuditRounds
from koinon.fairness.federated.totals import totals_of
from koinon.fairness.gaps import gap_of, permutation_p
from koinon.fairness.moments import moments_of
from koinon.fairness.plan import AuditPlan
from koinon.fairness.resampling import bootstrap_means, permuted_moments
from koinon.fairness.results import Answered, Recorded, Spent
from koinon.fairness.verdicts import VERDICTS, judge
from koinon.privacy.budget import NoiseSource, PrivacyConfig, events_of, multiplier_of, spent
from koinon.recommenders.federated.budgeting import Price, noise_of, protected
from koinon.recommenders.protocol import Contribution

PARTNERS = tuple("abcde")
GROUPS = tuple(f"group {number}" for number in range(6))
GAPS = (0.0, 0.05, 0.1, 0.15)
MEAN, TOLERANCE = 0.2, 0.05
GAINS = 1 / np.log2(np.arange(2, 12))
WAYS = (
    ("distributed", 0.5, 1),
    ("distributed", 0.8, 1),
    ("distributed", 0.5, 4),
    ("distributed", 0.8, 4),
    ("local", 1.0, 1),
)
RECORDED = Recorded(kind="local", key="", sequence=1, time="", hash="")


def plan_of(divisions: int, draws: int) -> AuditPlan:
    beside = [{"name": f"beside-{n}", "values": ["yes", "no"], "small": "withhold"} for n in range(1, divisions)]
    return AuditPlan.from_dict(
        {
            "name": "simulated",
            "question": "Is anybody served worse?",
            "system": {"kept": "deployed"},
            "data": {"sources": PARTNERS},
            "groups": [{"name": "asked", "values": GROUPS, "small": "withhold"}, *beside],
            "primary": [{"metric": "ndcg", "group": "asked", "tolerance": TOLERANCE}],
            "draws": draws,
            "federated": {"file": "-", "policy_sha256": "0" * 64},
        }
    )


def people(rng: np.random.Generator, size: int, planted: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Everybody's partner, group and NDCG."""
    group = np.repeat(np.arange(len(GROUPS)), size)
    mean = np.where(group == len(GROUPS) - 1, MEAN - planted, MEAN)
    hit = rng.random(len(group)) < mean / GAINS.mean()
    return rng.integers(0, len(PARTNERS), len(group)), group, hit * GAINS[rng.integers(0, 10, len(group))]


def pooled(partner: np.ndarray, group: np.ndarray, values: np.ndarray, draws: int, seed: int) -> str:
    """The verdict of whoever has all rows."""
    column = values[:, None]
    seen = moments_of(column, group, len(GROUPS))
    drawn = bootstrap_means(column, [group], [len(GROUPS)], partner, draws=draws, seed=seed)[0][:, :, 0]
    means, errors, freedom = (part[:, 0] for part in (seen.means, seen.errors, seen.freedom))
    gap = gap_of(means, errors, freedom, drawn - means, seed=seed)
    nobody = np.zeros(len(group), dtype=np.int64)
    null = permuted_moments(column, group, len(GROUPS), nobody, draws=draws, seed=seed)
    p = permutation_p(means, errors, null.means[..., 0], null.errors[..., 0])[0]
    return judge(TOLERANCE, gap.lo, gap.hi, p, complete=True)[0]


class Federation:
    """Partners that answer, under one budget."""

    def __init__(self, epsilon: float, mechanism: str, honest: float, divisions: int, draws: int) -> None:
        self.plan = plan_of(divisions, draws)
        self.layout = Layout(self.plan)
        self.rounds = AuditRounds.__new__(AuditRounds)
        self.rounds.layout = self.layout
        self.specs = self.layout.specs()
        self.budget = None
        if np.isfinite(epsilon):
            self.budget = PrivacyConfig(
                epsilon=epsilon,
                delta=1e-6,
                people=100_000,
                partners=len(PARTNERS),
                sharing=(),
                mechanism=mechanism,
                honest=honest,
                audits=1.0,
            )
            multiplier = multiplier_of(self.budget, 1.0, 1)
            shares = self.rounds.shares()[0]
            self.price = Price(QUESTION, 1, multiplier, shares, events_of(self.budget, multiplier, 1))
            self.deviations = noise_of(self.rounds, self.specs, self.price)

    def verdict(self, partner: np.ndarray, group: np.ndarray, values: np.ndarray, rng: np.random.Generator) -> str:
        arrays = {spec.name: np.zeros(spec.shape) for spec in self.specs}
        for name in range(len(PARTNERS)):
            mine = partner == name
            answered = {"asked": [GROUPS[number] for number in group[mine]]}
            for beside in self.plan.groups[1:]:
                answered[beside.name] = ["yes" if yes else "no" for yes in rng.random(int(mine.sum())) < 0.5]
            sums = self.layout.sums(values[mine][:, None], answered)
            if self.budget is not None:
                told = Contribution(sums, n_users=int(mine.sum()))
                sums = protected(self.budget, told, self.specs, self.deviations, len(PARTNERS), NoiseSource()).arrays
            for name_, array in sums.items():
                arrays[name_] += array
        totals = totals_of(
            self.layout,
            arrays,
            plan_sha256="0" * 64,
            policy_sha256="0" * 64,
            federation="simulated",
            created="",
            secure=True,
            partners=[Answered(partner=name, code=None) for name in PARTNERS],
            privacy=self._spent(),
        )
        return judge_totals(self.plan, RECORDED, totals).comparisons[0].verdict

    def _spent(self) -> Spent | None:
        if self.budget is None:
            return None
        # all partners' noise is in the total: whole ones under local, shares otherwise
        shares = self.budget.noise_shares(len(PARTNERS)) if self.budget.mechanism == "distributed" else 1
        scale = np.sqrt(len(PARTNERS) / shares)
        return Spent(
            epsilon=spent(self.price.events, 1e-6),
            delta=1e-6,
            budget=self.budget.epsilon,
            mechanism=self.budget.mechanism,
            safe=True,
            noise={name: float(deviation * scale) for name, deviation in self.deviations.items()},
        )


def simulated(audits: int, size: int, seed: int) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray, float]]:
    rng = np.random.default_rng(seed)
    for number in range(audits):
        planted = GAPS[number % len(GAPS)]
        yield number, *people(rng, size, planted), planted


def lower(count: int, of: int) -> float:
    return float(beta.ppf(0.05, count, of - count + 1)) if count else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audits", type=int, default=200)
    parser.add_argument("--sizes", type=int, nargs="+", default=[300, 1000, 3000])
    parser.add_argument("--epsilons", type=float, nargs="+", default=[1, 2, 4, 8, np.inf])
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for size in given.sizes:
        truth = {n: pooled(p, g, v, given.draws, n) for n, p, g, v, _ in simulated(given.audits, size, given.seed)}
        said = ", ".join(f"{v} {np.mean([one == v for one in truth.values()]):.2f}" for v in VERDICTS)
        print(f"groups of {size}: pooled verdicts {said}", flush=True)
        for mechanism, honest, divisions in WAYS:
            for epsilon in given.epsilons:
                federation = Federation(epsilon, mechanism, honest, divisions, given.draws)
                rng = np.random.default_rng(given.seed)
                found = {
                    n: federation.verdict(p, g, v, rng) for n, p, g, v, _ in simulated(given.audits, size, given.seed)
                }
                same = sum(found[n] == truth[n] for n in truth)
                bolder = sum(found[n] in ("fail", "pass") and found[n] != truth[n] for n in truth)
                said = f"secure, {honest:g} honest" if mechanism == "distributed" else "local"
                named = f"{said}, {divisions} divisions, {epsilon:g}"
                print(
                    f"  {named:<38} equal {same / given.audits:.3f} (95 % lower bound"
                    f" {lower(same, given.audits):.3f}), decided where the pooled is not {bolder / given.audits:.3f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
