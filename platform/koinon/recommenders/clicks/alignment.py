"""CTRL's first stage (Li et al. 2023, arXiv 2306.02841): a click network learns to say what the row says in words.

A row is put into words, "gender is female, age is 25-34, occupation is writer; title is …, categories are …". Over a
whole training set these are as many prompts as rows, but few halves: a person's and an item's. Each distinct half is
encoded once and the row's words are the two vectors side by side, under one learned linear map. That contains what
mean-pooling over the whole prompt gives as long as neither half reads the other. The language model is frozen.

Halves may also say what training rows tell: a person's what they liked and what they did not, the mean of these items'
halves; an item's who liked it and who did not, the mean of these people's halves and of what they in turn like.
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
from koinon.recommenders.clicks.rows import ClickData
from koinon.space import Space

__all__ = ["Alignment", "Words", "fine_grained", "words_of"]

Float = NDArray[np.float32]
Ints = NDArray[np.int32]


@dataclass(frozen=True)
class Words:
    """Halves of all prompts.

    Attributes
    ----------
    people, items
        ``float32[people, d]`` and ``float32[items, d]``, every column of mean 0 and deviation 1.
    liked
        ``float32[people, 2 d]``: the mean half of items liked, and of those not; 0 for none. ``None``: not told.
    liked_by
        ``float32[items, e]``: the mean of the people who liked it, and of those who did not; a person is their half
        and, where it is told, what they like. ``None``: not told.
    """

    people: Float
    items: Float
    liked: Float | None
    liked_by: Float | None


def words_of(data: ClickData, space: Space, *, liked: bool = True, liked_by: bool = True) -> Words:
    """Encode every distinct half once; ``liked`` and ``liked_by`` from training rows alone."""
    people, items = (_even(_encoded(side.sentences, space)) for side in (data.people, data.items))
    train = data.train
    theirs = _means(train.label, train.person, train.item, items, len(people)) if liked else None
    fans = None
    if liked_by:
        who = people if theirs is None else np.concatenate((people, _even(theirs)), axis=1)
        fans = _even(_means(train.label, train.item, train.person, who, len(items)))
    return Words(people, items, theirs, fans)


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
    liked_by: Tensor | None

    def __init__(self, config: AlignmentConfig, network: ClickNetwork, words: Words) -> None:
        super().__init__()
        self.config, self.network = config, network
        told = 0
        for name in ("people", "items", "liked", "liked_by"):
            value = getattr(words, name)
            self.register_buffer(name, None if value is None else torch.from_numpy(value), persistent=False)
            told += 0 if value is None else value.shape[1]
        self.from_row = nn.Linear(network.width, config.width)
        self.from_words = nn.Linear(told, config.width)

    def loss(self, person: Tensor, item: Tensor, hidden: tuple[Tensor, Tensor]) -> Tensor:
        """Half of row to words and half of words to row, each told from all others of the batch.

        Of who or what is hidden no likes are told either.
        """
        told = [self.people[person], self.items[item]]
        for likes, rows, unseen in ((self.liked, person, hidden[0]), (self.liked_by, item, hidden[1])):
            if likes is not None:
                told.append(likes[rows].masked_fill(unseen[:, None], 0.0))
        states = self.from_row(self.network.states(person, item, hidden))
        words = self.from_words(torch.cat(told, dim=1))
        alike = fine_grained(states, words, self.config.parts).float() / self.config.temperature
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


def _means(label: Float, of: Ints, others: Ints, vectors: Float, count: int) -> Float:
    """``float32[count, 2 d]``: for each of ``of`` the mean vector of its ``others`` of label 1, and of label 0."""
    found = []
    for wanted in (1.0, 0.0):
        keep = label == wanted
        ones = np.ones(int(keep.sum()), dtype=np.float32)
        rows = csr_matrix((ones, (of[keep], others[keep])), shape=(count, len(vectors)))
        found.append((rows @ vectors) / np.maximum(np.asarray(rows.sum(axis=1)), 1.0).reshape(-1, 1))
    return np.concatenate(found, axis=1).astype(np.float32)
