"""Asking a recommender twice for the same person: once neutrally, once with an attribute stated, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from koinon.evaluation.protocol import requests_of
from koinon.evaluation.significance import resampled_means
from koinon.fairness.probes.findings import Counterfactual, Spread, Stated, Value
from koinon.fairness.probes.plan import ProbePlan
from koinon.fairness.probes.similarity import SIMILARITIES, snsr, snsv
from koinon.fairness.probes.wording import Language
from koinon.fairness.subject import Source
from koinon.recommenders.protocol import Recommender, Request

__all__ = ["probe", "spread_of"]

Doubles = NDArray[np.float64]
Measure = Literal["jaccard", "serp", "prag", "ndcg"]


class Asking(NamedTuple):
    """How a plan has people asked and judged."""

    k: int
    level: float
    draws: int
    seed: int


def probe(source: Source, plan: ProbePlan, asking: Asking, declared: Sequence[str | None]) -> list[Counterfactual]:
    """Run one probe in each of its languages.

    Parameters
    ----------
    source
        Opened, its recommender fitted.
    plan
        What is stated.
    asking
        Length of lists, level, draws, seed.
    declared
        For each user row of the source's domain the attribute's own value, ``None`` where it is not known or must not
        be used.
    """
    test = source.split.test
    able = np.flatnonzero(test.main & (np.diff(test.target_indptr) > 0))
    rng = np.random.default_rng(asking.seed)
    rows = np.sort(rng.choice(able, size=min(plan.people, len(able)), replace=False))
    requests = requests_of(test, rows)
    targets = [test.targets(row) for row in rows.tolist()]
    own = [declared[user] for user in test.user[rows].tolist()]
    if source.space is not None:  # a person's own words are not remembered; these are nobody's
        said = (plan.sentence(language, value) for language in plan.languages for value in (None, *plan.stated))
        source.space.encode(list(said))
    return [_in_language(source, plan, language, requests, targets, own, asking) for language in plan.languages]


def _in_language(
    source: Source,
    plan: ProbePlan,
    language: Language,
    requests: Sequence[Request],
    targets: Sequence[NDArray[np.int32]],
    own: Sequence[str | None],
    asking: Asking,
) -> Counterfactual:
    labels = list(plan.stated)
    sentences = [plan.sentence(language, value) for value in (None, *labels)]
    lists = [_lists(source.recommender, requests, sentence, asking.k) for sentence in sentences]
    accuracy = np.array(
        [[_ndcg(one, held, asking.k) for one, held in zip(told, targets, strict=True)] for told in lists]
    )
    values: dict[Measure, Doubles] = {"ndcg": accuracy[1:].T}
    for name, similarity in SIMILARITIES.items():
        values[cast(Measure, name)] = np.array(
            [[similarity(one, other) for one, other in zip(lists[0], told, strict=True)] for told in lists[1:]]
        ).T
    changed = np.mean([any(told[row] != lists[0][row] for told in lists[1:]) for row in range(len(requests))])
    stated = [
        Stated(
            label=label,
            sentence=sentences[place + 1],
            ndcg_over_neutral=_value(accuracy[place + 1] - accuracy[0], asking),
            **{name: _value(found[:, place], asking) for name, found in values.items()},
        )
        for place, label in enumerate(labels)
    ]
    told_own = np.array([labels.index(value) if value in labels else -1 for value in own])
    knows = np.flatnonzero(told_own >= 0)
    gain = np.array([_own_over_others(values["ndcg"][row], told_own[row]) for row in knows])
    measures: tuple[Measure, ...] = ("jaccard", "serp", "prag", "ndcg")
    return Counterfactual(
        source=source.name,
        attribute=plan.attribute,
        language=language,
        neutral_sentence=sentences[0],
        neutral_ndcg=_value(accuracy[0], asking),
        people=len(requests),
        k=asking.k,
        changed=float(changed),
        stated=stated,
        spreads=[spread_of(name, values[name], labels, asking) for name in measures],
        own=_value(gain, asking) if len(gain) >= 20 else None,
        own_people=len(knows),
    )


def _lists(recommender: Recommender, requests: Sequence[Request], sentence: str, k: int) -> list[list[int]]:
    asked = [replace(request, query=sentence) for request in requests]
    return [[one.item for one in found] for found in recommender.recommend(asked, k)]


def _ndcg(items: Sequence[int], held: NDArray[np.int32], k: int) -> float:
    """NDCG of one list; as :mod:`koinon.evaluation` has it, but for ties, which a list has decided."""
    wanted = set(held.tolist())
    gained = sum(1 / np.log2(place + 2) for place, item in enumerate(items[:k]) if item in wanted)
    ideal = sum(1 / np.log2(place + 2) for place in range(min(k, len(wanted))))
    return float(gained / ideal) if ideal else 0.0


def _own_over_others(row: Doubles, own: int) -> float:
    return float(row[own] - np.delete(row, own).mean())


def _value(values: Doubles, asking: Asking) -> Value:
    """Mean over people with its percentile bootstrap interval."""
    drawn = resampled_means(values[:, None], asking.seed, asking.draws)[:, 0]
    lo, hi = np.quantile(drawn, [(1 - asking.level) / 2, (1 + asking.level) / 2])
    return Value(mean=float(values.mean()), lo=float(lo), hi=float(hi))


def spread_of(measure: Measure, values: Doubles, labels: Sequence[str], asking: Asking) -> Spread:
    """How far the values' means lie apart: range, standard deviation, interval, and what chance gives.

    ``values`` is ``float64[people, values]``: everybody is asked with every value, so people are drawn with all of
    theirs, and chance deals each person's figures out anew among the values. The lower end is
    ``max_ab (d_ab − c s_ab)``, at least 0, with ``c`` the quantile of the largest standardised deviation over all
    pairs; the upper end ``max_ab (|d_ab| + z s_ab)``. (The largest of several differences is large by chance: the plain
    range has no such interval.)
    """
    means = values.mean(axis=0)
    first, second = np.triu_indices(len(labels), 1)
    differences = values[:, first] - values[:, second]
    seen = differences.mean(axis=0)
    drawn = resampled_means(differences, asking.seed, asking.draws)
    errors = drawn.std(axis=0, ddof=1)
    moves = errors > 1e-12
    lo, hi = float(np.abs(seen).max()), float(np.abs(seen).max())
    if moves.any():
        off = np.abs(drawn[:, moves] - seen[moves]) / errors[moves]
        c = float(np.quantile(off.max(axis=1), asking.level))
        lo = max(0.0, float((np.abs(seen) - c * errors).max()))
        hi = float((np.abs(seen) + norm.ppf((1 + asking.level) / 2) * errors).max())
    rng = np.random.default_rng(asking.seed + 1)
    chance = np.array([snsr(rng.permuted(values, axis=1).mean(axis=0)) for _ in range(asking.draws)])
    found = float(snsr(means))
    p = (float((chance >= found - 1e-12).sum()) + 1) / (asking.draws + 1)
    return Spread(
        measure=measure,
        range=found,
        lo=lo,
        hi=hi,
        deviation=float(snsv(means)),
        by_chance=float(chance.mean()),
        p=p,
        p_adjusted=p,
        least=labels[int(means.argmin())],
        most=labels[int(means.argmax())],
    )
