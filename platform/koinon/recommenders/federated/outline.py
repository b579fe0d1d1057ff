"""What a learner would send, said before anybody has joined: the sizes that depend on the members stand as words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from koinon.recommenders.federated import registry
from koinon.recommenders.federated.registry import Settings
from koinon.recommenders.protocol import FederationPlan

__all__ = ["Outlined", "outline"]


@dataclass(frozen=True)
class Outlined:
    """A tensor that may leave a partner.

    Attributes
    ----------
    rounds
        When, e.g. ``1`` or ``2 to 6``.
    name, dtype, aggregation
        As in its :class:`~koinon.recommenders.protocol.TensorSpec`.
    shape
        Numbers, or what they depend on, e.g. ``works that are matched``.
    person
        Bound on what one person can add to it (L2 norm); ``inf`` for none.
    """

    rounds: str
    name: str
    shape: tuple[str, ...]
    person: float
    dtype: str = "float32"
    aggregation: str = "sum"


WORKS = "matched works"
DIMENSION = "the encoder's dimension"


def outline(learner: str, settings: Settings) -> tuple[Outlined, ...]:
    """Return every tensor that a learner may ask a partner for.

    Raises
    ------
    RecommenderError
        K440 no such learner, K441 settings it refuses.
    """
    plan = registry.plan(learner, settings)
    if learner in registry.QUESTIONS:
        return _of_question(plan)
    config = plan.config  # type: ignore[attr-defined]
    if learner == "federated_popularity":
        return (Outlined(_rounds(1, plan.rounds), "counts", (WORKS,), config.clip),)
    if learner == "federated_gram":
        return (
            Outlined("1", "counts", (WORKS,), config.clip),
            Outlined("2", "pairs", (f"at most {config.pairs:,}",), config.clip),
        )
    if learner == "federated_codebook":
        return (_of_codebook(plan.rounds, config.codes),)
    if learner == "federated_hstu":
        return _of_network(plan)
    if learner == "federated_lora":
        rounds = _rounds(1, plan.rounds)
        size = f"{config.rank} times the outputs of the encoder's tuned layers"
        return (Outlined(rounds, "weight", ("1",), 1.0), Outlined(rounds, "up", (size,), config.clip))
    side, directions = ("1 + twice the encoder's dimension",) * 2, (f"at most {config.directions:,}",) * 2
    told = [Outlined("1", "counts", (WORKS,), config.clip)] if config.counted else []
    told.append(Outlined("1", "moment", side, float("inf")))
    if config.width:
        told.append(Outlined(_rounds(2, plan.rounds), "image", (WORKS, f"at most {config.width:,}"), config.clip))
    told.append(Outlined("2", "semantic", directions, config.clip))
    told.append(Outlined("2", "spread", directions, float("inf")))
    return tuple(told)


def _of_question(plan: FederationPlan) -> tuple[Outlined, ...]:
    """A question's tensors follow from its settings alone."""
    nothing = plan.initial((), None, rng=np.random.default_rng(0))
    return tuple(
        Outlined("1", spec.name, tuple(map(str, spec.shape)), spec.clip, spec.dtype, spec.aggregation)
        for spec in plan.task(nothing, 1).specs
    )


def _of_codebook(rounds: int, codes: int) -> Outlined:
    return Outlined(_rounds(1, rounds), "moments", (f"at most {codes:,}", f"2 + {DIMENSION}"), float("inf"))


def _of_network(plan: Any) -> tuple[Outlined, ...]:
    from koinon.recommenders.federated.hstu._control import CONTROL
    from koinon.recommenders.federated.hstu.parts import shared_part, template

    unknown = 999_983  # no size that a setting would have
    config, told = plan.config, []
    if plan.before:
        told.append(_of_codebook(plan.before, config.code_words))
    shared = shared_part(template(config, unknown, "meta"))
    rounds = _rounds(plan.before + 1, plan.rounds)
    told.append(Outlined(rounds, plan.weight, ("1",), 1.0))
    if config.control:
        shared |= {CONTROL + name: value for name, value in shared.items()}
    for name, value in sorted(shared.items()):
        shape = tuple(DIMENSION if size == unknown else f"{size:,}" for size in value.shape)
        told.append(Outlined(rounds, name, shape, config.clip))
    return tuple(told)


def _rounds(first: int, last: int) -> str:
    return str(first) if first == last else f"{first} to {last}"
