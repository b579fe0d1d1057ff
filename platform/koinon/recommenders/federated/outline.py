"""What a learner would send, said before anybody has joined: the sizes that depend on the members stand as words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from koinon.recommenders.federated import registry
from koinon.recommenders.federated.registry import Settings

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
    config = plan.config  # type: ignore[attr-defined]
    if learner == "federated_popularity":
        return (Outlined(_rounds(1, plan.rounds), "counts", (WORKS,), config.clip),)
    if learner == "federated_gram":
        return (
            Outlined("1", "counts", (WORKS,), config.clip),
            Outlined("2", "pairs", (f"at most {config.pairs:,}",), config.clip),
        )
    if learner == "federated_codebook":
        shape = (f"at most {config.codes:,}", f"2 + {DIMENSION}")
        return (Outlined(_rounds(1, plan.rounds), "moments", shape, float("inf")),)
    if learner == "federated_hstu":
        return _of_network(config)
    side, directions = ("1 + twice the encoder's dimension",) * 2, (f"at most {config.directions:,}",) * 2
    return (
        Outlined("1", "counts", (WORKS,), config.clip),
        Outlined("1", "moment", side, float("inf")),
        Outlined(_rounds(2, plan.rounds), "image", (WORKS, f"at most {config.width:,}"), config.clip),
        Outlined("2", "semantic", directions, config.clip),
        Outlined("2", "spread", directions, float("inf")),
    )


def _of_network(config: Any) -> tuple[Outlined, ...]:
    from koinon.recommenders.federated.hstu import HSTUPlan
    from koinon.recommenders.federated.hstu.parts import shared_part, template

    unknown = 999_983  # no size that a setting would have
    shared = shared_part(template(config, unknown, "meta"))
    rounds = _rounds(1, config.rounds)
    told = [Outlined(rounds, HSTUPlan.weight, ("1",), 1.0)]
    for name, value in sorted(shared.items()):
        shape = tuple(DIMENSION if size == unknown else f"{size:,}" for size in value.shape)
        told.append(Outlined(rounds, name, shape, config.clip))
    return tuple(told)


def _rounds(first: int, last: int) -> str:
    return str(first) if first == last else f"{first} to {last}"
