"""The least relevance that a change of lists must cost, as a linear programme; its dual prices serve anybody.

Lists ``x[u, i]`` in [0, 1] (each person's sum to k) keep as much relevance as they can while group means of the items'
features stay where they ought to. The programme is solved by HiGHS over some people's shortlists. Its dual has one
price per aim and group: with those, the best lists of *every* person, also of one who came later, are the k items with
the highest ``relevance + Σ price · feature``: one sort for each request, nothing to solve at serving.

Sources: FOEIR (Singh and Joachims 2018) and CPFair (Naghiaei, Rahmani and Deldjoo 2022), which solve such programmes
over whole tables; user-oriented fairness (Li, Chen, Fu, Ge and Zhang 2021) is the aim ``alike`` on relevance kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import block_array, coo_array, csr_array, eye_array, kron

from koinon.errors import EvaluationError

__all__ = ["Goal", "group_means", "prices_of"]

Doubles = NDArray[np.float64]

_DEAREST = 5.0
"""Relevance that one standard deviation of a feature can be worth at most: what is out of reach is not forced."""


@dataclass(frozen=True)
class Goal:
    """What the lists of groups of people ought to hold on average.

    Attributes
    ----------
    feature
        ``float64[people, depth]``: of each item of each shortlist, e.g. 1 for the long tail.
    group
        ``int64[people]`` from 0; -1: in no group, and bound by nothing.
    groups
        How many there are.
    due
        What each group's mean over its lists should be; ``None``: the same for all groups, whatever it is.
    width
        How far a group's mean may stay away from that.
    """

    feature: Doubles
    group: NDArray[np.int64]
    groups: int
    due: float | None
    width: float


def group_means(goal: Goal, lists: Doubles, k: int) -> Doubles:
    """Mean feature of each group's lists ``float64[people, depth]`` (0 to 1, rows sum to k), ``float64[groups]``."""
    each = (goal.feature * lists).sum(axis=1) / k
    here = goal.group >= 0
    size = np.bincount(goal.group[here], minlength=goal.groups)
    means: Doubles = np.bincount(goal.group[here], each[here], minlength=goal.groups) / np.maximum(size, 1)
    return means


def prices_of(
    relevance: Doubles, there: NDArray[np.bool_], goals: Sequence[Goal], k: int
) -> tuple[list[Doubles], Doubles]:
    """Solve the programme.

    Parameters
    ----------
    relevance, there
        ``[people, depth]`` as in :class:`~koinon.fairness.mitigation.reranking.Shortlists`.
    goals
        What is aimed at.
    k
        Length of a list.

    Returns
    -------
    prices
        For each goal ``float64[groups]``: what one unit of the feature is worth, in relevance.
    lists
        ``float64[people, depth]``: the programme's own lists; all but a few entries are 0 or 1.

    Raises
    ------
    EvaluationError
        K538 HiGHS found no solution.
    """
    people, depth = relevance.shape
    size = people * depth
    blocks, upper, lower, dearest, centre = [], [], [], [], []
    for place, goal in enumerate(goals):
        count = np.bincount(goal.group[goal.group >= 0], minlength=goal.groups)
        scale = np.divide(1.0, k * count, out=np.zeros(goal.groups), where=count > 0)
        row = np.repeat(goal.group, depth)
        column = np.arange(size)
        inside = row >= 0
        value = (goal.feature.ravel() * scale[row])[inside]
        blocks.append(coo_array((value, (row[inside], column[inside])), shape=(goal.groups, size)))
        due = 0.0 if goal.due is None else goal.due
        upper.append(np.full(goal.groups, due + goal.width))
        lower.append(np.full(goal.groups, due - goal.width))
        spread = float(goal.feature[there].std()) or 1.0
        dearest.append(_DEAREST / spread * count / people)
        centre.append(np.full(goal.groups, place))
    means = csr_array(block_array([[block] for block in blocks]))
    aims = means.shape[0]
    middle = coo_array((-np.ones(aims), (np.arange(aims), np.concatenate(centre))), shape=(aims, len(goals)))
    slack = -eye_array(aims)
    above = block_array([[means, middle, slack], [-means, -middle, slack]], format="csr")
    each = block_array(
        [[kron(eye_array(people), np.ones((1, depth))), coo_array((people, len(goals) + aims))]], format="csr"
    )
    full = np.minimum(k, there.sum(axis=1)).astype(np.float64)
    cost = np.concatenate([-relevance.ravel() / (k * people), np.zeros(len(goals)), np.concatenate(dearest)])
    bounds = np.zeros((size + len(goals) + aims, 2))
    bounds[:size, 1] = there.ravel()
    for place, goal in enumerate(goals):
        if goal.due is None:
            bounds[size + place] = -np.inf, np.inf
    bounds[size + len(goals) :, 1] = np.inf
    solved = linprog(  # type: ignore[call-overload]  # sparse is taken, the stubs do not say so
        cost,
        A_ub=above,
        b_ub=np.concatenate([*upper, *(-low for low in lower)]),
        A_eq=each,
        b_eq=full,
        bounds=bounds,
        method="highs",
    )
    if not solved.success:
        raise EvaluationError(
            "K538", f"No lists could be found that meet the aim: {solved.message}", "Turn the dial down."
        )
    marginal = np.asarray(solved.ineqlin.marginals)
    worth = marginal[:aims] - marginal[aims:]
    prices, start = [], 0
    for goal in goals:
        count = np.bincount(goal.group[goal.group >= 0], minlength=goal.groups)
        own = worth[start : start + goal.groups]
        prices.append(np.divide(own * people, count, out=np.zeros(goal.groups), where=count > 0))
        start += goal.groups
    return prices, np.asarray(solved.x[:size]).reshape(people, depth)
