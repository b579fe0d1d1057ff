"""Item-to-item recall: is what somebody took later among the nearest texts of what they had?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from koinon.data import Domain, EvaluationSet

__all__ = ["ItemPairs", "by_user", "held_out_pairs", "item_recall", "pairs_within", "usual_cut"]


@dataclass(frozen=True)
class ItemPairs:
    """Held-out pairs of items.

    Attributes
    ----------
    user
        ``int32[pairs]``: whose pair it is, rows of ``Domain.user_ids``, sorted.
    query, target
        ``int32[pairs]`` items: had, and held out.
    """

    user: NDArray[np.int32]
    query: NDArray[np.int32]
    target: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.user)

    def take(self, keep: NDArray[np.bool_]) -> ItemPairs:
        """Those that a mask ``bool[pairs]`` keeps."""
        return ItemPairs(self.user[keep], self.query[keep], self.target[keep])


def held_out_pairs(
    domain: Domain,
    evaluation: EvaluationSet,
    together: csr_matrix,
    *,
    per_user: int = 10,
    users: int | None = None,
    seed: int = 0,
) -> ItemPairs:
    """Pairs of an item in somebody's history and a held-out item of theirs.

    Pairs that go together in training already (``together``) are left out: what counts is what the texts tell beyond
    the pairs that were learned from. So are pairs of equal texts.

    Parameters
    ----------
    domain, evaluation
        The training domain, and whom to ask about.
    together
        ``bool csr[items, items]`` of :class:`koinon.recommenders.serial.notellm.Pairs`.
    per_user
        Pairs of a person at most, drawn.
    users
        People at most, drawn; ``None``: all.
    seed
        Of both draws.
    """
    rng = np.random.default_rng(seed)
    texts = domain.texts
    rows = np.arange(len(evaluation))
    if users is not None and users < len(rows):
        rows = np.sort(rng.choice(rows, users, replace=False))
    user, query, target = [np.empty(0, np.int32)], [np.empty(0, np.int32)], [np.empty(0, np.int32)]
    for row in rows.tolist():
        had, taken = np.unique(evaluation.history(row)), evaluation.targets(row)
        known = together[had][:, taken].toarray()
        free = [(h, t) for h, t in np.argwhere(~known) if texts[had[h]] != texts[taken[t]]]
        if len(free) > per_user:
            free = [free[place] for place in np.sort(rng.choice(len(free), per_user, replace=False))]
        if free:
            places = np.array(free)
            user.append(np.full(len(free), evaluation.user[row], dtype=np.int32))
            query.append(had[places[:, 0]].astype(np.int32))
            target.append(taken[places[:, 1]].astype(np.int32))
    return ItemPairs(np.concatenate(user), np.concatenate(query), np.concatenate(target))


def usual_cut(items: int) -> int:
    """Places that count in a catalogue of so many items: 100, or a twentieth of a small one."""
    return min(100, math.ceil(items / 20))


def pairs_within(
    texts: Sequence[str], people: Sequence[NDArray[np.int32]], together: csr_matrix, *, per_user: int, seed: int = 0
) -> ItemPairs:
    """Pairs of items of the same person, of people who were not learned from, ``user`` numbering them.

    Left out are, as in :func:`held_out_pairs`, pairs that go together in training and pairs of equal texts.

    Parameters
    ----------
    texts
        Of all items.
    people
        Distinct items of each person.
    together, per_user, seed
        As there.
    """
    rng = np.random.default_rng(seed)
    found: list[tuple[int, int, int]] = []
    for number, items in enumerate(people):
        items = rng.permutation(items)[:100]
        known = together[items][:, items].toarray()
        free = [(a, b) for a, b in np.argwhere(~known) if texts[items[a]] != texts[items[b]]]
        chosen = np.sort(rng.permutation(len(free))[:per_user])
        found += [(number, int(items[free[place][0]]), int(items[free[place][1]])) for place in chosen]
    columns = np.array(found, dtype=np.int32).reshape(-1, 3).T
    return ItemPairs(*columns)


def item_recall(
    vectors: NDArray[np.float32],
    pairs: ItemPairs,
    together: csr_matrix,
    *,
    k: tuple[int, ...] = (10, 100),
    candidates: NDArray[np.integer] | None = None,
    batch: int = 512,
) -> dict[int, NDArray[np.float64]]:
    """Whether each pair's target is among the ``k`` items nearest to its query, by dot product.

    Candidates are all items but the query itself and what goes together with it in training. Of equally near items the
    target's place is the expected one.

    Parameters
    ----------
    vectors
        ``float32[items, d]``.
    pairs, together
        From :func:`held_out_pairs`.
    k
        Cuts.
    candidates
        Items that are ranked; ``None``: the whole catalogue.
    batch
        Pairs at once.

    Returns
    -------
    For each cut ``float64[pairs]`` in [0, 1].
    """
    allowed = np.ones(len(vectors), dtype=np.bool_)
    if candidates is not None:
        allowed[:] = False
        allowed[candidates] = True
    found = {cut: np.zeros(len(pairs)) for cut in k}
    for start in range(0, len(pairs), batch):
        part = slice(start, start + batch)
        query, target = pairs.query[part], pairs.target[part]
        line = np.arange(len(query))
        scores = vectors[query] @ vectors.T
        own = scores[line, target].copy()
        scores[:, ~allowed] = -np.inf
        row, column = together[query].nonzero()
        scores[row, column] = -np.inf
        scores[line, query] = scores[line, target] = -np.inf
        above = (scores > own[:, None]).sum(axis=1)
        equal = (scores == own[:, None]).sum(axis=1)
        for cut in k:
            found[cut][part] = np.clip((cut - above) / (1 + equal), 0.0, 1.0)
    return found


def by_user(values: NDArray[np.float64], pairs: ItemPairs) -> NDArray[np.float64]:
    """Mean of each person's pairs, ``float64[people]`` in the order of their rows."""
    _, where = np.unique(pairs.user, return_inverse=True)
    counts = np.bincount(where)
    means: NDArray[np.float64] = np.bincount(where, weights=values) / counts
    return means
