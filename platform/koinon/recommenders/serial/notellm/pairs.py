"""Which items go together, from training events alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix

from koinon.data import Domain
from koinon.recommenders.serial.notellm._config import PairConfig

__all__ = ["Ignored", "Pairs", "co_occurrences", "no_negatives"]

Ints = NDArray[np.int32]
Ignored = Callable[[NDArray[np.integer[Any]]], NDArray[np.bool_]]
"""Of some items, which must not count as each other's negatives: ``bool[items, items]``."""


@dataclass(frozen=True)
class Pairs:
    """Pairs to learn from.

    Attributes
    ----------
    left, right
        ``int32[pairs]`` items: who took ``left`` took ``right`` too (afterwards, where there is an order).
    strength
        ``float32[pairs]``: the sum over people of 1 / their events.
    together
        ``bool csr[items, items]``, symmetric: all items that anybody took together. None of them counts as a negative.
    """

    left: Ints
    right: Ints
    strength: NDArray[np.float32]
    together: csr_matrix

    def __len__(self) -> int:
        return len(self.left)


def co_occurrences(domain: Domain, config: PairConfig | None = None, *, seed: int = 0) -> Pairs:
    """Count which items go together (NoteLLM, section 4.1).

    Every ordered pair of a person's events, viewed then chosen, adds 1 / N to ``s(viewed → chosen)``, N being the
    person's events; without times or a stated order both directions count. Pairs of moderate strength stay, of an item
    the strongest ``per_item``. Pairs of equal texts are left out: they teach nothing.

    Parameters
    ----------
    domain
        Its events are those one may learn from; nothing held out is among them.
    config
        Bounds.
    seed
        Of the events drawn of people with too many, where there is no order.
    """
    config = config or PairConfig()
    ordered = domain.events.time is not None
    rng = np.random.default_rng(seed)
    left, right, weight = [np.empty(0, np.int32)], [np.empty(0, np.int32)], [np.empty(0, np.float32)]
    for items in _histories(domain, config.longest, ordered, rng):
        first, second = np.triu_indices(len(items), 1)
        share = np.full(len(first), 1 / len(items), dtype=np.float32)
        left += [items[first]] if ordered else [items[first], items[second]]
        right += [items[second]] if ordered else [items[second], items[first]]
        weight += [share] if ordered else [share, share]
    shape = (domain.n_items, domain.n_items)
    places = (np.concatenate(left), np.concatenate(right))
    strength = coo_matrix((np.concatenate(weight), places), shape=shape).tocsr()  # repeated places are added up
    strength.sort_indices()
    together = (strength + strength.T).astype(np.bool_)
    chosen = _strongest(strength, config, domain.texts)
    return Pairs(*chosen, together)


def no_negatives(texts: Sequence[str], together: csr_matrix | None = None) -> Ignored:
    """What is known to go together, and items of equal text, are no negatives of each other.

    Parameters
    ----------
    texts
        Of all items.
    together
        As :attr:`Pairs.together`; ``None``: nothing is known.
    """
    number = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    text = np.array([number[one] for one in texts], dtype=np.int64)

    def of(items: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
        same: NDArray[np.bool_] = text[items][:, None] == text[items]
        if together is not None:
            same |= together[items][:, items].toarray().astype(np.bool_)
        return same

    return of


def _histories(domain: Domain, longest: int, ordered: bool, rng: np.random.Generator) -> Iterator[Ints]:
    """Distinct items of each person with two at least, oldest first."""
    edges = np.flatnonzero(np.diff(domain.events.user, prepend=-1, append=-1))
    for start, stop in pairwise(edges):
        items = domain.events.item[start:stop]
        _, first = np.unique(items, return_index=True)
        items = items[np.sort(first)]
        if len(items) > longest:
            items = items[-longest:] if ordered else items[np.sort(rng.choice(len(items), longest, replace=False))]
        if len(items) > 1:
            yield items


def _strongest(
    strength: csr_matrix, config: PairConfig, texts: tuple[str, ...]
) -> tuple[Ints, Ints, NDArray[np.float32]]:
    """Rows, columns and values of what stays; of equally strong ones those of lower index."""
    row = np.repeat(np.arange(strength.shape[0], dtype=np.int32), np.diff(strength.indptr))
    column, value = strength.indices.astype(np.int32), strength.data.astype(np.float32)
    number = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    text = np.array([number[one] for one in texts], dtype=np.int64)
    keep = (value >= config.least) & (value <= config.most) & (text[row] != text[column])
    row, column, value = row[keep], column[keep], value[keep]
    order = np.lexsort((column, -value, row))
    row, column, value = row[order], column[order], value[order]
    begins = np.flatnonzero(np.diff(row, prepend=-1))
    rank = np.arange(len(row)) - np.repeat(begins, np.diff(np.append(begins, len(row))))
    top = rank < config.per_item
    return row[top], column[top], value[top]
