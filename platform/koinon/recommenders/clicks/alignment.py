"""CTRL's first stage (Li et al. 2023, arXiv 2306.02841): a click network learns to say what the row says in words.

A row is put into words, "gender is female, age is 25-34, occupation is writer; title is …, categories are …". Over a
whole training set these are as many prompts as rows, but few halves: a person's and an item's. Each distinct half is
encoded once and the row's words are the two vectors side by side, under one learned linear map. That contains what
mean-pooling over the whole prompt gives as long as neither half reads the other. The language model is frozen.

A person's half may also say what they liked and did not (in training rows alone): the mean of these items' halves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from koinon.recommenders.clicks._config import AlignmentConfig
from koinon.recommenders.clicks.networks import ClickNetwork
from koinon.recommenders.clicks.rows import ClickData, Rows
from koinon.space import Space

__all__ = ["Alignment", "Words", "fine_grained", "words_of"]

Float = NDArray[np.float32]


@dataclass(frozen=True)
class Words:
    """Halves of all prompts.

    Attributes
    ----------
    people, items
        ``float32[people, d]`` and ``float32[items, d]``, every column of mean 0 and deviation 1.
    liked
        ``float32[people, 2 d]``: the mean half of items liked, and of those not; 0 for none. ``None``: not told.
    """

    people: Float
    items: Float
    liked: Float | None


def words_of(data: ClickData, space: Space, *, liked: bool = True) -> Words:
    """Encode every distinct half once; ``liked`` from training rows alone."""
    people, items = (_even(_encoded(side.sentences, space)) for side in (data.people, data.items))
    if not liked:
        return Words(people, items, None)
    means = [_mean_of(data.train, data.train.label == wanted, items, len(people)) for wanted in (1.0, 0.0)]
    return Words(people, items, np.concatenate(means, axis=1))


def fine_grained(rows: Tensor, words: Tensor, parts: int) -> Tensor:
    """``[n, m]`` likeness of ``[n, width]`` and ``[m, width]``: ``Σ_i max_j a_i · b_j`` over unit parts."""
    left = F.normalize(rows.view(len(rows), parts, -1), dim=2)
    right = F.normalize(words.view(len(words), parts, -1), dim=2).flatten(0, 1)
    alike = [(left[:, part] @ right.T).view(len(rows), len(words), parts).amax(2) for part in range(parts)]
    return torch.stack(alike).sum(0)


class Alignment(nn.Module):
    """A click network, and the two maps by which its states and words meet."""

    people: Tensor
    items: Tensor
    liked: Tensor | None

    def __init__(self, config: AlignmentConfig, network: ClickNetwork, words: Words) -> None:
        super().__init__()
        self.config, self.network = config, network
        for name in ("people", "items", "liked"):
            value = getattr(words, name)
            self.register_buffer(name, None if value is None else torch.from_numpy(value), persistent=False)
        told = words.people.shape[1] + words.items.shape[1]
        told += 0 if words.liked is None else words.liked.shape[1]
        self.from_row = nn.Linear(network.width, config.width)
        self.from_words = nn.Linear(told, config.width)

    def loss(self, person: Tensor, item: Tensor, hidden: tuple[Tensor, Tensor]) -> Tensor:
        """Half of row to words and half of words to row, each told from all others of the batch.

        Who is hidden has no likes in words either.
        """
        told = [self.people[person], self.items[item]]
        if self.liked is not None:
            told.append(self.liked[person].masked_fill(hidden[0][:, None], 0.0))
        rows = self.from_row(self.network.states(person, item, hidden))
        words = self.from_words(torch.cat(told, dim=1))
        alike = fine_grained(rows, words, self.config.parts).float() / self.config.temperature
        own = torch.arange(len(person), device=person.device)
        return (F.cross_entropy(alike, own) + F.cross_entropy(alike.T, own)) / 2


def _encoded(sentences: tuple[str, ...], space: Space) -> Float:
    distinct = list(dict.fromkeys(sentences))
    place = {sentence: row for row, sentence in enumerate(distinct)}
    return space.encode(distinct)[[place[sentence] for sentence in sentences]]


def _even(vectors: Float) -> Float:
    spread = vectors.std(axis=0)
    even: Float = (vectors - vectors.mean(axis=0)) / np.where(spread > 1e-6, spread, 1.0)
    return even


def _mean_of(rows: Rows, keep: NDArray[np.bool_], items: Float, people: int) -> Float:
    ones = np.ones(int(keep.sum()), dtype=np.float32)
    taken = csr_matrix((ones, (rows.person[keep], rows.item[keep])), shape=(people, len(items)))
    counts = np.maximum(np.asarray(taken.sum(axis=1)), 1.0).reshape(-1, 1)
    return np.asarray((taken @ items) / counts, dtype=np.float32)
