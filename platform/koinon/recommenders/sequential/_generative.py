"""The generative network: an HSTU that reads histories, and a decoder that says the next item's code words in turn.

``p(item | history) = Π_d p(token_d | history, tokens before)``. At every depth the softmax goes over the tokens that
may follow in the catalogue's trie, in training as in generation: probabilities of all items sum to one, and what is not
in the catalogue has none. A row costs ``depths · (width² + codes · width)``, whatever the size of the catalogue.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from koinon.recommenders.sequential._config import GenerativeConfig
from koinon.recommenders.sequential._hstu import HSTUNetwork
from koinon.recommenders.sequential.histories import Batch
from koinon.recommenders.sequential.items import CodeItems, ItemEncoder, SumItems
from koinon.recommenders.sequential.trie import Trie

__all__ = ["GenerativeNetwork"]

CELLS = {"cpu": 1 << 22, "cuda": 1 << 27}
"""Log-probabilities worked on at once, where a whole catalogue is scored."""


class GenerativeNetwork(HSTUNetwork):
    """States from HSTU's blocks; tokens from states and the tokens before.

    Parameters
    ----------
    config, items, timed
        As for :class:`HSTUNetwork`; ``items`` is or holds :class:`CodeItems`.
    trie
        The catalogue's.
    """

    def __init__(self, config: GenerativeConfig, items: ItemEncoder, trie: Trie, *, timed: bool) -> None:
        super().__init__(config, items, timed=timed)
        self.trie = trie
        width, levels = config.width, trie.depths - 1
        self.enter = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(levels))
        self.turn = nn.ModuleList(nn.Linear(width, width) for _ in range(levels))
        self.last = nn.Parameter(torch.empty(trie.sizes[-1], width).normal_(std=0.02))

    @property
    def codes(self) -> CodeItems:
        """The items' code words."""
        parts = self.items.parts if isinstance(self.items, SumItems) else [self.items]
        return next(part for part in parts if isinstance(part, CodeItems))

    def forward(self, batch: Batch) -> Tensor:
        """``[T, width]``: what each row knows of what comes next."""
        rows, _ = self.read(batch)
        states: Tensor = nn.functional.layer_norm(rows.float(), rows.shape[-1:])
        return states

    def loss(self, batch: Batch) -> Tensor:
        """Mean of ``-log p`` of every row's next item."""
        assert batch.targets is not None
        states: Tensor = self(batch)
        trie, total = self.trie, states.new_zeros(())
        for depth in range(trie.depths):
            node = trie.at[depth][batch.targets]
            open_ = trie.branching[depth][node].nonzero().squeeze(1)
            said = self.step(depth, states[open_], node[open_])
            total = total - said.gather(1, trie.tokens[batch.targets[open_], depth, None]).sum()
        return total / max(len(states), 1)

    def step(self, depth: int, states: Tensor, nodes: Tensor) -> Tensor:
        """``[n, tokens]``: log-probabilities of what follows at ``nodes`` ``int64[n]``; ``-inf`` for what does not.

        ``states`` is ``[n, width]``.
        """
        if depth:
            known = self._told(depth, nodes)
            joined = nn.functional.silu(self.enter[depth - 1](torch.cat((states, known), 1)))
            states = states + self.turn[depth - 1](joined)
        logits = self.finish(states) @ self.finish(self._words(depth)).T / self.config.temperature
        return logits.masked_fill(self.trie.children[depth][nodes] < 0, float("-inf")).log_softmax(1)

    def log_probabilities(self, states: Tensor, items: Tensor) -> Tensor:
        """``[n, candidates]``: log-probability of each item ``int64[candidates]`` for each state ``[n, width]``."""
        trie = self.trie
        total = states.new_zeros((len(states), len(items)))
        for depth in range(trie.depths):
            node = trie.at[depth][items]
            open_ = trie.branching[depth][node].nonzero().squeeze(1)
            if not len(open_):
                continue
            nodes, which = torch.unique(node[open_], return_inverse=True)
            token = trie.tokens[items[open_], depth]
            few = max(1, CELLS[states.device.type] // (len(nodes) * max(trie.sizes[depth], states.shape[1])))
            for start in range(0, len(states), few):
                some = states[start : start + few]
                said = self.step(depth, some.repeat_interleave(len(nodes), 0), nodes.repeat(len(some)))
                said = said.view(len(some), len(nodes), -1)
                total[start : start + few, open_] += said[:, which, token]
        return total

    def generate(self, states: Tensor, exhausted: list[Tensor], beam: int) -> tuple[Tensor, Tensor]:
        """The likeliest unseen items by beam search in the trie.

        Parameters
        ----------
        states
            ``[n, width]``.
        exhausted
            Of :meth:`Trie.exhausted`: branches in which a request has seen everything are not entered.
        beam
            Paths kept at every depth.

        Returns
        -------
        Items ``int64[n, ≤ beam]`` and their log-probabilities, likeliest first; ``-inf`` past the last unseen item.
        """
        trie, count = self.trie, len(states)
        nodes = torch.zeros((count, 1), dtype=torch.int64, device=states.device)
        scores = states.new_zeros((count, 1))
        for depth in range(trie.depths):
            wide = nodes.shape[1]
            said = self.step(depth, states.repeat_interleave(wide, 0), nodes.reshape(-1)).view(count, wide, -1)
            following = trie.children[depth][nodes]
            seen = exhausted[depth].gather(1, following.clamp(min=0).flatten(1))
            paths = (scores[:, :, None] + said).flatten(1).masked_fill(seen, float("-inf"))
            scores, order = torch.sort(paths, dim=1, descending=True, stable=True)
            scores, order = scores[:, :beam], order[:, :beam]
            nodes = following.flatten(1).gather(1, order).clamp(min=0)
        return trie.ends[nodes], scores

    def _words(self, depth: int) -> Tensor:
        """``[tokens, width]``: what may be said at a depth."""
        if depth == self.trie.depths - 1:
            return self.last
        size = self.trie.sizes[depth]
        return self.codes.words[depth * size : (depth + 1) * size]

    def _told(self, depth: int, nodes: Tensor) -> Tensor:
        """``[n, width]``: the code words that lead to nodes."""
        size = self.trie.sizes[0]
        words = self.trie.prefixes[depth][nodes] + size * torch.arange(depth, device=nodes.device)
        told: Tensor = nn.functional.embedding_bag(words, self.codes.words, mode="sum")
        return told * math.sqrt(self.config.width)
