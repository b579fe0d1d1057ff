"""How settings are searched: a validation set asked over and over, and one setting varied at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from koinon.config import Config
from koinon.data import Domain, EvaluationSet
from koinon.errors import RecommenderError
from koinon.evaluation.metrics import METRICS, place, ranking_metrics
from koinon.evaluation.protocol import requests_of
from koinon.recommenders._journal import Journal
from koinon.recommenders.ranking import history_matrix

__all__ = ["Axis", "Trial", "Validator", "descend", "descend_from_each"]

Scores = NDArray[np.float32]
Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Trial:
    """One setting tried on validation: its mean value and the seconds it took."""

    family: str
    config: Config
    value: float
    seconds: float


@dataclass(frozen=True)
class Axis:
    """One setting and the values tried for it; ``relative`` ones multiply the best value so far."""

    name: str
    values: tuple[Any, ...]
    relative: bool = False

    def around(self, settings: Settings) -> list[Any]:
        """Values to try, given the best settings so far."""
        if not self.relative:
            return list(self.values)
        return [settings[self.name] * value for value in self.values if settings[self.name]]


class Validator:
    """The main users of a validation set, asked again for every trial.

    Parameters
    ----------
    domain, validation
        As in :class:`koinon.data.Split`.
    metric
        ``ndcg@10``, ``recall@20`` …
    rows
        At most so many users are asked, drawn with ``rng``; intervals of a percent or two, in a fraction of the time.

    Attributes
    ----------
    journal
        Where the trials it judges are kept; ``None``: nowhere.

    Raises
    ------
    RecommenderError
        K406 there is no such metric, K407 nobody to validate on.
    """

    def __init__(
        self, domain: Domain, validation: EvaluationSet, metric: str, rng: np.random.Generator, rows: int = 3000
    ) -> None:
        name, _, cut = metric.partition("@")
        if name not in METRICS or not cut.isdigit() or int(cut) < 1:
            raise RecommenderError("K406", f"There is no metric {metric!r}.", f"Choose {'@10, '.join(METRICS)}@10.")
        self.column, self.k = METRICS.index(name), int(cut)
        asked = np.flatnonzero(validation.main & (np.diff(validation.target_indptr) > 0))
        if len(asked) == 0:
            raise RecommenderError(
                "K407",
                f"{domain.name} has no main user with a validation event.",
                "Give the partner more events, or name the settings instead of tuning them.",
            )
        if len(asked) > rows:
            asked = np.sort(rng.choice(asked, size=rows, replace=False))
        self.domain = domain
        self.metric = metric
        self.journal: Journal | None = None
        self.requests = requests_of(validation, asked)
        self.target_row = np.repeat(np.arange(len(asked)), np.diff(validation.target_indptr)[asked])
        self.target_item = np.concatenate([validation.targets(row) for row in asked.tolist()])
        self.seen = history_matrix(self.requests, domain.n_items).nonzero()
        self._histories: dict[float, csr_matrix] = {}

    def fingerprint(self) -> str:
        """SHA-256 (hex) over the training events, whom it asks and for what."""
        digest = hashlib.sha256(f"{self.metric} {self.domain.n_users}".encode())
        digest.update("\n".join(self.domain.items["item_id"].to_list()).encode())
        events = self.domain.events
        asked = [request.history for request in self.requests]
        for array in (events.user, events.item, events.time, self.target_row, self.target_item, *asked):
            digest.update(b"-" if array is None else f"{len(array)} ".encode() + np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def history(self, recency: float = 1.0) -> csr_matrix:
        """``float32[users, items]``: the histories asked about."""
        if recency not in self._histories:
            self._histories[recency] = history_matrix(self.requests, self.domain.n_items, recency)
        return self._histories[recency]

    def values(self, scores: Scores) -> NDArray[np.float64]:
        """Metric of each user, ``float64[users]``; ``scores`` is ``float32[users, items]`` and is masked in place."""
        scores[self.seen] = -np.inf
        placed = place(scores, self.target_row, self.target_item, self.k)
        values: NDArray[np.float64] = ranking_metrics(placed, self.target_row, len(scores), self.k)[:, self.column]
        return values


def descend(
    family: str,
    start: Config,
    axes: Sequence[Axis],
    measure: Callable[[Any], NDArray[np.float64]],
    *,
    budget: int,
    caution: float,
    journal: Journal | None = None,
    on_trial: Callable[[Trial], None] | None = None,
) -> tuple[Config, list[Trial]]:
    """Coordinate descent from ``start``: try one axis at a time, keep what is better, at most ``budget`` trials.

    A setting replaces the best so far only if its paired mean gain over users exceeds ``caution`` standard errors of
    that gain: where validation is small, a stated start is worth more than noise. Trials that ``journal`` holds are not
    run again; the others are kept there.
    """
    trials: list[Trial] = []
    known: dict[Config, NDArray[np.float64]] = {}

    def tried(config: Config) -> NDArray[np.float64]:
        if config not in known:
            found = None if journal is None else journal.find(family, config)
            if found is None:
                begun = perf_counter()
                found = measure(config), perf_counter() - begun
                if journal is not None:
                    journal.keep(family, config, *found)
            known[config], seconds = found
            trial = Trial(family, config, float(known[config].mean()), seconds)
            trials.append(trial)
            if on_trial is not None:
                on_trial(trial)
        return known[config]

    best, values = start, tried(start)
    for axis in axes:
        options = []
        for value in axis.around(best.model_dump()):
            if len(trials) >= budget:
                break
            option = best.model_copy(update={axis.name: value})
            options.append((option, tried(option)))
        leader, led = max(options, key=lambda pair: float(pair[1].mean()), default=(best, values))
        gain = led - values
        if gain.mean() > caution * gain.std() / np.sqrt(len(gain)):
            best, values = leader, led
    return best, trials


def descend_from_each(
    family: str,
    starts: Sequence[Config],
    axes: Sequence[Axis],
    measure: Callable[[Any], NDArray[np.float64]],
    *,
    budget: int,
    caution: float,
    journal: Journal | None = None,
    on_trial: Callable[[Trial], None] | None = None,
) -> tuple[Config, list[Trial]]:
    """:func:`descend` from several starts that share ``budget`` alike; the best end counts, the earlier on a tie.

    One descent may end in a hollow that rounding alone decides on; with a second start elsewhere it seldom matters.
    """
    ends, trials = [], []
    distinct = dict.fromkeys(starts)
    share = max(1, budget // len(distinct))
    for start in distinct:
        end, tried = descend(
            family, start, axes, measure, budget=share, caution=caution, journal=journal, on_trial=on_trial
        )
        ends.append((next(trial.value for trial in tried if trial.config == end), end))
        trials.extend(tried)
    return max(ends, key=lambda pair: pair[0])[1], trials
