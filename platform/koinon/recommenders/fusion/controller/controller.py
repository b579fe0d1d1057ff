"""The controller behind the one protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar, Self, cast

import numpy as np
from numpy.typing import NDArray

from koinon.data import Domain
from koinon.errors import KoinonError, RecommenderError
from koinon.recommenders.base import build_base
from koinon.recommenders.fusion.controller._config import ControllerConfig, Segment
from koinon.recommenders.fusion.controller.deadlines import Late, Runner
from koinon.recommenders.fusion.controller.latency import Profile, machine, measure, probes_of
from koinon.recommenders.fusion.controller.log import DecisionLog
from koinon.recommenders.fusion.controller.routing import Decision, decide, kind_of, order_of
from koinon.recommenders.fusion.place import Place
from koinon.recommenders.protocol import Recommendation, Recommender, Request
from koinon.recommenders.ranking import Ranked
from koinon.recommenders.store import Storable
from koinon.space import Space

__all__ = ["Answer", "Controller"]

Scores = NDArray[np.float32]
Lists = list[Recommendation]


@dataclass(frozen=True)
class Answer:
    """A list, and how it came about.

    Attributes
    ----------
    items
        Best first.
    decision
        Where the request was to go.
    answered_by
        The pipeline that gave the list.
    instead_of
        ``(pipeline, why)`` of those that should have and did not: ``late``, or an error's code or type.
    took_ms
        From question to answer.
    """

    items: Lists
    decision: Decision
    answered_by: str
    instead_of: tuple[tuple[str, str], ...]
    took_ms: float


class Controller(Ranked):
    """Sends each request to one of its pipelines (:func:`koinon.recommenders.fusion.controller.routing.decide`).

    :meth:`answer` and :meth:`recommend` keep to the budget: what is not there in time is answered by the quickest
    pipeline, for which time is left. :meth:`score` is for evaluation: it routes alike, and has no clock.

    Parameters
    ----------
    config
        Settings.
    recommenders
        Pipelines' recommenders at hand, by pipeline, instead of those that the settings name.
    """

    name: ClassVar[str] = "controller"
    config_type: ClassVar[type[ControllerConfig]] = ControllerConfig
    place: ClassVar[Place] = Place("pipeline controller", "frozen", with_conventional=True)

    def __init__(
        self, config: ControllerConfig | None = None, *, recommenders: Mapping[str, Recommender] | None = None
    ) -> None:
        self.config = config or ControllerConfig()
        at_hand = dict(recommenders or {})
        self.recommenders: dict[str, Recommender] = {
            pipeline.name: at_hand.get(pipeline.name) or build_base(pipeline.recommender, pipeline.settings)
            for pipeline in self.config.pipelines
        }
        self._profile: Profile | None = None
        self._counts: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._runners: dict[str, Runner[list[Lists]]] = {name: Runner() for name in self.recommenders}
        self._log = None if self.config.log is None else DecisionLog(Path(self.config.log))

    @property
    def profile(self) -> Profile:
        """What every pipeline was measured to take.

        Raises
        ------
        RecommenderError
            K400 not fitted.
        """
        if self._profile is None:
            raise RecommenderError("K400", "The recommender is not fitted.", "Call fit first.")
        return self._profile

    @property
    def counts(self) -> NDArray[np.int64]:
        """``int64[items]``: training events."""
        return self._counts

    def fit(self, domain: Domain, space: Space | None, *, rng: np.random.Generator) -> Self:
        """Fit every pipeline on the domain, then :meth:`adopt` it.

        Raises
        ------
        RecommenderError
            As the pipelines'.
        """
        for recommender in self.recommenders.values():
            recommender.fit(domain, space, rng=rng)
        return self.adopt(domain, rng=rng)

    def adopt(self, domain: Domain, *, rng: np.random.Generator, profile: Profile | None = None) -> Self:
        """Take the domain's counts and measure pipelines that are fitted on it; or take a ``profile`` at hand."""
        self._counts = domain.item_counts
        if profile is None:
            config, measured = self.config, {}
            for pipeline in config.pipelines:
                measured[pipeline.name] = {
                    "words" if words else "plain": measure(
                        self.recommenders[pipeline.name],
                        probes_of(domain, config.probes, rng, words=words),
                        seconds=config.probe_seconds,
                    )
                    for words in ((False, True) if pipeline.hears_words else (False,))
                }
            profile = Profile(machine(), cast(Any, measured))
        self._profile = profile
        return self

    def with_choices(self, choices: Mapping[Segment, str]) -> Self:
        """Return it with other choices per segment; pipelines and profile are the same."""
        other = type(self)(
            ControllerConfig.model_validate({**self.config.model_dump(), "choices": dict(choices)}),
            recommenders=self.recommenders,
        )
        other._counts, other._profile = self._counts, self._profile
        return other

    def route(self, request: Request, budget_ms: float | None = None) -> Decision:
        """Say where a request goes, and why; ``budget_ms`` for this one in place of the settings'.

        Raises
        ------
        RecommenderError
            K400 not fitted; K494 no pipeline is quick enough.
        """
        budget = self.config.budget_ms if budget_ms is None else budget_ms
        busy = [name for name, runner in self._runners.items() if runner.busy]
        return decide(request, self._counts, self.config, self.profile, budget, busy)

    def answer(self, request: Request, k: int, budget_ms: float | None = None) -> Answer:
        """Route a request, answer it, and log it.

        Raises
        ------
        RecommenderError
            K400 not fitted; K494 no pipeline is quick enough; K495 all failed.
        """
        begun = perf_counter()
        decision = self.route(request, budget_ms)
        patience = self._patience(request, decision)
        replaced: list[tuple[str, str]] = []
        lists: list[Lists] | None = None
        answered_by = decision.pipeline
        try:
            recommender = self.recommenders[decision.pipeline]
            if patience is None:
                lists = recommender.recommend([request], k)
            else:
                left = patience / 1000.0 - (perf_counter() - begun)
                lists = self._runners[decision.pipeline].run(lambda: recommender.recommend([request], k), left)
        except Exception as error:
            replaced.append((decision.pipeline, _why(error)))
        if lists is None:
            answered_by, lists = self._instead(request, k, decision, replaced)
        took = 1000.0 * (perf_counter() - begun)
        answer = Answer(lists[0], decision, answered_by, tuple(replaced), took)
        if self._log is not None:
            self._log.append(
                {
                    "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
                    **asdict(decision),
                    "answered_by": answered_by,
                    "instead_of": [{"pipeline": name, "why": why} for name, why in replaced],
                    "took_ms": round(took, 3),
                    "k": k,
                }
            )
        return answer

    def recommend(self, requests: Sequence[Request], k: int) -> list[Lists]:
        """Answer one request after another, each within the budget."""
        return [self.answer(request, k).items for request in requests]

    def score(self, requests: Sequence[Request], candidates: NDArray[np.int32] | None = None) -> Scores:
        """Return ``float32[requests, candidates]``: each row from its pipeline, or from the next if that fails.

        Raises
        ------
        RecommenderError
            K400 not fitted; K494 no pipeline is quick enough; K495 all failed.
        """
        width = len(self._counts) if candidates is None else len(candidates)
        scores = np.empty((len(requests), width), dtype=np.float32)
        decisions = [self.route(request) for request in requests]
        for pair in dict.fromkeys((decision.pipeline, decision.segment) for decision in decisions):
            rows = [row for row, one in enumerate(decisions) if (one.pipeline, one.segment) == pair]
            scores[rows] = self._scored([requests[row] for row in rows], candidates, *pair)
        return scores

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return what the pipelines learned, the items' counts and the profile."""
        learned: dict[str, NDArray[np.generic]] = {}
        for place, recommender in enumerate(self.recommenders.values()):
            for name, array in cast(Storable, recommender).state().items():
                learned[f"{place}.{name}"] = array
        profile = np.frombuffer(self.profile.dump().encode(), dtype=np.uint8)
        return {**learned, "counts": self._counts, "profile": profile}

    def restore(self, state: Mapping[str, NDArray[np.generic]], domain: Domain, space: Space | None) -> Self:
        """Adopt what an equal controller learned; on another machine latencies are measured again."""
        for place, name in enumerate(self.recommenders):
            start = f"{place}."
            learned = {key.removeprefix(start): array for key, array in state.items() if key.startswith(start)}
            self.recommenders[name] = cast(Storable, self.recommenders[name]).restore(learned, domain, space)
        profile = Profile.parse(np.asarray(state["profile"], dtype=np.uint8).tobytes().decode())
        self.adopt(domain, rng=np.random.default_rng(0), profile=profile if profile.machine == machine() else None)
        self._counts = np.asarray(state["counts"], dtype=np.int64)
        return self

    def _patience(self, request: Request, decision: Decision) -> float | None:
        """Milliseconds that the chosen pipeline is waited for; ``None``: until it answers.

        What the budget leaves the quickest other one; where that takes longer than the budget, all of the budget: an
        answer that comes late is better than one that may never come.
        """
        others = [name for name in self.recommenders if name != decision.pipeline]
        if not others or not self.config.deadlines:
            return None
        needed = min(self.profile.of(name, kind_of(request)).p95_ms for name in others)
        return decision.budget_ms - needed if needed < decision.budget_ms else decision.budget_ms

    def _instead(
        self, request: Request, k: int, decision: Decision, replaced: list[tuple[str, str]]
    ) -> tuple[str, list[Lists]]:
        """Ask the others, the quickest first."""
        kind = kind_of(request)
        others = [name for name in self.recommenders if name != decision.pipeline]
        for name in sorted(others, key=lambda name: self.profile.of(name, kind).p95_ms):
            if self._runners[name].busy:
                replaced.append((name, "late"))
                continue
            try:
                return name, self.recommenders[name].recommend([request], k)
            except Exception as error:
                replaced.append((name, _why(error)))
        raise _nobody(replaced)

    def _scored(
        self, requests: Sequence[Request], candidates: NDArray[np.int32] | None, pipeline: str, segment: Segment
    ) -> Scores:
        failed: list[tuple[str, str]] = []
        for name in [pipeline, *(other for other in order_of(segment, self.config) if other != pipeline)]:
            try:
                return self.recommenders[name].score(requests, candidates)
            except Exception as error:
                failed.append((name, _why(error)))
        raise _nobody(failed)


def _why(error: Exception) -> str:
    """An error's code or type: its words may hold data."""
    if isinstance(error, Late):
        return "late"
    return error.code if isinstance(error, KoinonError) else type(error).__name__


def _nobody(failed: Sequence[tuple[str, str]]) -> RecommenderError:
    told = ", ".join(f"{name} ({why})" for name, why in failed)
    return RecommenderError("K495", f"No pipeline could answer: {told}.", "See the errors of each by itself.")
