"""A privacy budget divided among a federation's learners and rounds, and the noise that a round's sums get.

Everything here follows from the policy, so that server and partners compute the same and a partner knows what a round
costs before it takes part. Half of what a round must not do is checked here too: tensors that depend on events and have
no bound, figures beside the tensors, a division of the events in which one person decides whether another's count.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from koinon.data import SplitConfig
from koinon.errors import PrivacyError
from koinon.privacy.budget import (
    Event,
    NoiseSource,
    PrivacyConfig,
    discrete,
    events_of,
    gaussian,
    multiplier_of,
    scales,
    spent,
)
from koinon.recommenders.federated import registry
from koinon.recommenders.protocol import Contribution, FederationPlan, Task, TensorSpec, Total

__all__ = ["Price", "check_policy", "exact", "noise_of", "prices", "protected", "spent_in", "with_noise"]

Settings = Mapping[str, bool | int | float | str]


@dataclass(frozen=True)
class Price:
    """What one round of a learner costs the people of one partner.

    Attributes
    ----------
    learner, round
        Which.
    multiplier
        Noise of the round's tensors together, per what one person may change.
    shares
        How they divide it.
    events
        For the account.
    """

    learner: str
    round: int
    multiplier: float
    shares: Mapping[str, float]
    events: tuple[Event, ...]

    @property
    def purpose(self) -> str:
        """For people."""
        return f"{self.learner} round {self.round}"


def prices(privacy: PrivacyConfig, learners: Mapping[str, Settings], partner: str) -> dict[tuple[str, int], Price]:
    """What every round of every learner costs at a partner, by ``(learner, round)``.

    The learners that ask for events divide the budget evenly, less what is kept for audits and for further runs; a
    learner divides its part among rounds and tensors (``shares`` of its plan). Together the rounds of all runs, and the
    audits, cost ε.

    Raises
    ------
    PrivacyError
        K669 as the plans' ``shares``, K676 an audit wants more than is kept for audits.
    RecommenderError
        K440, K441 as :func:`koinon.recommenders.federated.registry.plan`.
    """
    plans = {name: registry.plan(name, settings) for name, settings in learners.items()}
    rounds = {name: plan.shares() for name, plan in plans.items()}
    of_events = [name for name, shares in rounds.items() if any(shares) and name in registry.LEARNERS]
    trained = (1 - privacy.audits) / (privacy.runs * max(len(of_events), 1))
    copies = privacy.copies(partner)
    found = {}
    for name, plan in plans.items():
        part = plan.part(privacy) if isinstance(plan, registry.Question) else trained
        for number, shares in enumerate(rounds[name], 1):
            if not shares:
                found[name, number] = Price(name, number, 0.0, shares, ())
                continue
            multiplier = multiplier_of(privacy, part * sum(shares.values()), copies)
            events = events_of(privacy, multiplier, copies)
            found[name, number] = Price(name, number, multiplier, shares, events)
    return found


def spent_in(privacy: PrivacyConfig, learners: Mapping[str, Settings], rounds: Iterable[tuple[str, int]]) -> float:
    """ε that rounds, by ``(learner, round)``, cost a person; whose they are makes no difference to it.

    A person of several partners is in more releases, each of them with so much more noise.
    """
    priced = prices(privacy, learners, "")
    return spent([event for round_ in rounds for event in priced[round_].events], privacy.delta)


def check_policy(
    privacy: PrivacyConfig,
    learners: Mapping[str, Settings],
    *,
    split: SplitConfig,
    metrics: Sequence[str],
    minimum: int,
    secure: bool,
) -> None:
    """Refuse a policy whose budget would not hold.

    Raises
    ------
    PrivacyError
        K661 a learner without a finite clip, K663 and K665 as :meth:`PrivacyConfig.check_cohort`, K666 figures may
        leave beside the tensors, K667 one person's events decide whether others' count, K669 as the plans' ``shares``.
    """
    privacy.check_cohort(minimum, secure=secure)
    if metrics:
        raise PrivacyError(
            "K666",
            f"Figures would leave without noise: {', '.join(sorted(metrics))}.",
            "Set metrics = [] under a budget; partners still see their own.",
        )
    # a question takes the catalogue as given, as it does the model that it asks about
    if split.minimum_item_events > 1 and not set(learners) <= set(registry.QUESTIONS):
        raise PrivacyError(
            "K667",
            f"An item enters the catalogue with its {split.minimum_item_events}nd event or later, so that one person"
            " decides whether others' events of it count.",
            "Set split.minimum_item_events = 1 and leave unwanted items out of the catalogue.",
        )
    for name, settings in learners.items():
        made = registry.plan(name, settings)
        made.shares()
        config = getattr(made, "config", None)
        clips = [getattr(config, field, None) for field in ("clip", "counts_clip")]
        if any(clip is not None and not math.isfinite(clip) for clip in clips):
            raise PrivacyError(
                "K661", f"{name} has no bound on what one person adds.", "Set a finite clip under a budget."
            )


def exact(task: Task) -> Task:
    """The same task in float64: noise is added before anything is rounded to what travels."""
    return replace(task, specs=tuple(replace(spec, dtype="float64") for spec in task.specs))


def noise_of(plan: FederationPlan, specs: Sequence[TensorSpec], price: Price) -> dict[str, float]:
    """Standard deviation of the whole noise of each tensor that depends on events.

    Raises
    ------
    PrivacyError
        K668 a tensor that neither is of the catalogue alone nor has a share of the budget, K661 one without a bound.
    """
    of_events = {spec.name: spec.clip for spec in specs if plan.measures[spec.name].unit == "person"}
    if set(of_events) != set(price.shares):
        wrong = ", ".join(sorted(set(of_events) ^ set(price.shares)))
        raise PrivacyError("K668", f"Not what {price.purpose} has a budget for: {wrong}.", "Tell the operator.")
    return scales(of_events, price.shares, price.multiplier)


def protected(
    privacy: PrivacyConfig,
    contribution: Contribution,
    specs: Sequence[TensorSpec],
    noise: Mapping[str, float],
    minimum: int,
    source: NoiseSource,
) -> Contribution:
    """Add the noise to a contribution of :func:`exact` sums; what is returned may leave.

    The number of people gives way to the policy's bound on it, and no figures are left.

    Raises
    ------
    PrivacyError
        K673 the partner has more people than the policy's bound; K663 as :func:`koinon.privacy.budget.discrete`.
    """
    if contribution.n_users > privacy.people:
        raise PrivacyError(
            "K673", "This partner has more people than the policy allows for.", "Raise `people`, and lower `delta`."
        )
    arrays: dict[str, NDArray[np.generic]] = {}
    for spec in specs:
        sums = contribution.arrays[spec.name]
        if spec.name not in noise:
            arrays[spec.name] = sums.astype(spec.dtype)
        else:
            clear, scale = sums.astype(np.float64), noise[spec.name]
            if privacy.mechanism == "local":
                noised = gaussian(clear, scale, source)
            else:
                noised = discrete(clear, scale, spec.clip, privacy.noise_shares(minimum), source)
            arrays[spec.name] = noised.astype(spec.dtype)
    return Contribution(arrays, n_users=privacy.people)


def with_noise(
    privacy: PrivacyConfig,
    learners: Mapping[str, Settings],
    learner: str,
    task: Task,
    total: Total,
    minimum: int,
) -> Total:
    """A total that says how much noise is in it: all partners' under local noise, all shares' otherwise."""
    plan = registry.plan(learner, learners[learner])
    shares = privacy.noise_shares(minimum) if privacy.mechanism == "distributed" else 1
    variance: dict[str, float] = {}
    for partner in total.partners:
        price = prices(privacy, learners, partner)[learner, task.round]
        for name, deviation in noise_of(plan, task.specs, price).items():
            variance[name] = variance.get(name, 0.0) + deviation**2 / shares
    return replace(total, noise={name: math.sqrt(value) for name, value in variance.items()})
