"""A catalogue's semantic ids as a trie: what may follow what, so that nothing else can be generated."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Trie"]


class Trie:
    """The paths of a catalogue. At depth d a node is a beginning of d tokens; the root is node 0 of depth 0.

    Parameters
    ----------
    paths
        ``int[items, depths]``, no two rows equal.
    sizes
        Tokens there are at each depth.
    device
        Where the tensors live.

    Attributes
    ----------
    tokens
        ``int64[items, depths]``: the paths.
    at
        For each depth ``int64[items]``: the node every item passes, before its token there.
    children
        For each depth ``int64[nodes, tokens]``: the node at the next depth, -1 where nothing of the catalogue is; after
        the last token ends of paths are numbered like nodes.
    prefixes
        For each depth ``int64[nodes, depth]``: the tokens that lead to a node.
    branching
        For each depth ``bool[nodes]``: whether more than one token may follow.
    under
        For each depth but the first, and after the last: ``int64[nodes]``, how many items pass a node.
    ends
        ``int64[items]``: the item that each end of a path is.
    """

    def __init__(self, paths: NDArray[np.integer], sizes: tuple[int, ...], device: torch.device) -> None:
        paths = np.asarray(paths, dtype=np.int64)
        self.sizes, self.device = sizes, device
        at, under = [np.zeros(len(paths), dtype=np.int64)], []
        children, prefixes = [], []
        counts = 1
        prefix: NDArray[np.int64] = np.empty((1, 0), dtype=np.int64)
        for depth, size in enumerate(sizes):
            edges, first, node, passing = np.unique(
                at[-1] * size + paths[:, depth], return_index=True, return_inverse=True, return_counts=True
            )
            follows = np.full(counts * size, -1, dtype=np.int64)
            follows[edges] = np.arange(len(edges))
            children.append(follows.reshape(counts, size))
            prefixes.append(prefix)
            at.append(node.ravel())
            under.append(passing)
            counts, prefix = len(edges), np.array(paths[first, : depth + 1], dtype=np.int64)
        self.tokens = self._put(paths)
        self.at = [self._put(node) for node in at[:-1]]
        self.children = [self._put(follows) for follows in children]
        self.prefixes = [self._put(tokens) for tokens in prefixes]
        self.branching = [(follows >= 0).sum(1) > 1 for follows in self.children]
        self.under = [self._put(passing) for passing in under]
        self.ends = self._put(np.argsort(at[-1]))
        self._passed = at[1:]

    @property
    def depths(self) -> int:
        """Tokens of a path."""
        return len(self.sizes)

    def exhausted(self, seen: list[NDArray[np.integer]]) -> list[Tensor]:
        """For each depth, after its token, ``bool[requests, nodes]``: whether a request has seen all items there."""
        found = []
        for passed, under in zip(self._passed, self.under, strict=True):
            many = np.stack([np.bincount(passed[np.unique(items)], minlength=len(under)) for items in seen])
            found.append(self._put(many) >= under)
        return found

    def _put(self, array: NDArray[np.integer]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.int64)).to(self.device)
