"""From a request's shape and a budget to a pipeline, with reasons."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from koinon.errors import RecommenderError
from koinon.recommenders.fusion.controller._config import ControllerConfig, Segment
from koinon.recommenders.fusion.controller.latency import Kind, Profile
from koinon.recommenders.protocol import Request

__all__ = ["Decision", "decide", "kind_of", "order_of", "shape_of"]


@dataclass(frozen=True)
class Decision:
    """Where a request goes.

    Attributes
    ----------
    pipeline
        Its name.
    segment
        The request's shape.
    reasons
        Sentences, in the order in which they counted.
    expected_ms
        The pipeline's measured 95th percentile; never above ``budget_ms``.
    budget_ms
        What there was.
    """

    pipeline: str
    segment: Segment
    reasons: tuple[str, ...]
    expected_ms: float
    budget_ms: float


def kind_of(request: Request) -> Kind:
    """Whether a request says anything in words."""
    return "words" if request.query or request.liked else "plain"


def shape_of(request: Request, counts: NDArray[np.int64], config: ControllerConfig) -> tuple[Segment, str]:
    """Return a request's shape and the reason for it; ``counts`` are the items' training events ``int64[items]``."""
    if kind_of(request) == "words":
        return "words", "the request says something in words"
    length = len(request.history)
    if not length:
        return "stranger", "nothing is known of who asks"
    rare = int((counts[request.history] <= config.rare_events).sum())
    if 2 * rare >= length:
        return "cold", f"{rare} of {length} items of the history have at most {config.rare_events} events"
    if length <= config.short_history:
        return "short", f"the history has {length} events, no more than {config.short_history}"
    return "regular", f"the history has {length} events"


def order_of(segment: Segment, config: ControllerConfig) -> list[str]:
    """Pipelines in the order in which a shape's rule, then the list of pipelines, prefers them."""
    ruled = list(config.rules.get(segment, ()))
    return [*ruled, *(pipeline.name for pipeline in config.pipelines if pipeline.name not in ruled)]


def decide(
    request: Request,
    counts: NDArray[np.int64],
    config: ControllerConfig,
    profile: Profile,
    budget_ms: float,
    busy: Collection[str] = (),
) -> Decision:
    """Choose a pipeline that is quick enough, and not ``busy`` with what it was late for, if there is another.

    Words go to a pipeline that hears them, if one is quick enough; then what validation prefers counts, then the rule.

    Raises
    ------
    RecommenderError
        K494 no pipeline is.
    """
    segment, why = shape_of(request, counts, config)
    reasons, kind = [why], kind_of(request)
    order = order_of(segment, config)
    expected = {name: profile.of(name, kind).p95_ms for name in order}
    quick = [name for name in order if expected[name] <= budget_ms]
    reasons += [
        f"{name} is left out: its 95th percentile of {expected[name]:.1f} ms is above the budget of {budget_ms:g} ms"
        for name in order
        if name not in quick
    ]
    if not quick:
        raise RecommenderError(
            "K494",
            f"No pipeline answers within {budget_ms:g} ms; the quickest takes {min(expected.values()):.1f} ms.",
            "Raise budget_ms, or add a quicker pipeline such as popularity.",
        )
    idle = [name for name in quick if name not in busy]
    if idle:
        reasons += [f"{name} is left out: it is still busy with what it was late for" for name in quick if name in busy]
        quick = idle
    if kind == "words":
        hearing = {pipeline.name for pipeline in config.pipelines if pipeline.hears_words}
        heard = [name for name in quick if name in hearing]
        reasons.append("it goes to a pipeline that hears words" if heard else "no pipeline that is left hears words")
        quick = heard or quick
    preferred = config.choices.get(segment)
    if preferred in quick:
        chosen = preferred
        reasons.append(f"validation prefers {chosen} for such requests")
    else:
        chosen = quick[0]
        ruled = chosen in config.rules.get(segment, ())
        reasons.append(f"{chosen} is the first of {'the rule for such requests' if ruled else 'the list'} that is left")
    return Decision(chosen, segment, tuple(reasons), expected[chosen], budget_ms)
