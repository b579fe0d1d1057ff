"""The training core: batches of pairs of texts, the generative-contrastive loss, one optimiser."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from koinon.errors import RecommenderError
from koinon.recommenders.serial.notellm._config import LearnerConfig
from koinon.recommenders.serial.notellm.losses import contrastive_loss
from koinon.recommenders.serial.notellm.pairs import no_negatives
from koinon.space.batches import by_length
from koinon.space.tuned import Asked, TextNetwork

__all__ = ["PairLearner"]

_LARGEST_SCALE = 100.0

Ints = NDArray[np.integer[Any]]


class PairLearner(nn.Module):
    """Learns from pairs of texts that go together.

    Texts become tokens once, when the learner is made. A text that stands in several pairs of a batch is read once, and
    texts of like length are read together. Its parameters are those that are tuned and the temperature, nothing of the
    frozen model, so that a checkpoint of it is small.

    Parameters
    ----------
    network
        What is tuned.
    texts
        What pairs point to.
    config
        How.
    together
        ``bool csr[texts, texts]``: pairs that are no negatives; ``None``: only the pairs of the batch and equal texts.
    categories
        Of each text, the most general first; what a decoder learns to say. ``None``: contrast alone.
    seed
        Of batches and questions.

    Raises
    ------
    SpaceError
        K308 something that is no text.
    """

    def __init__(
        self,
        network: TextNetwork,
        texts: Sequence[str],
        config: LearnerConfig | None = None,
        *,
        together: csr_matrix | None = None,
        categories: Sequence[Sequence[str]] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.config = config or LearnerConfig()
        self._network = [network]  # a list: the frozen weights are none of this module's
        self.scale = nn.Parameter(torch.tensor(math.log(1 / self.config.temperature), device=network.device))
        named = [(name.replace(".", "/"), value) for name, value in network.named_parameters() if value.requires_grad]
        self.tuned = nn.ParameterDict(named)
        self.rows = network.tokens(texts)
        self._ignored = no_negatives(texts, together)
        self._categories = categories if network.decodes and self.config.alpha > 0 else None
        kept = self.config.keep_lower and network.config.lora.first_layer > 0
        self._below: dict[int, Tensor] | None = {} if kept else None
        self._rng = np.random.default_rng(seed)
        self.optimiser = torch.optim.AdamW(
            self.parameters(), lr=self.config.learning_rate, weight_decay=self.config.weight_decay, fused=True
        )

    @property
    def network(self) -> TextNetwork:
        """What is tuned."""
        return self._network[0]

    def train(self, mode: bool = True) -> PairLearner:
        """Let the network train (dropout), or not."""
        super().train(mode)
        self.network.train(mode)
        return self

    def named_tuned(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The network's parameters that are trained, by the names of ``network.shared_names()``."""
        for name, value in self.network.named_parameters():
            if value.requires_grad:
                yield name, value

    def loss(self, left: Ints, right: Ints, *, questions: np.random.Generator | None = None) -> Tensor:
        """``(L_contrastive + α L_generative) / (1 + α)`` of one batch.

        Parameters
        ----------
        left, right
            ``int[pairs]`` rows of the texts.
        questions
            Draws what is asked of each text; ``None``: nothing is asked.
        """
        items, where = np.unique(np.concatenate((left, right)), return_inverse=True)
        device = torch.device(self.network.device)
        asked = self._asked(items, questions)
        below = None if self._below is None or any(asked) else self.below(items)
        vectors, costs = self._read([self.rows[item] for item in items], asked, below)
        pair = torch.from_numpy(where.astype(np.int64)).to(device).view(2, -1)
        scale = self.scale.exp().clamp(max=_LARGEST_SCALE)
        found = contrastive_loss(vectors, pair[0], pair[1], scale, torch.from_numpy(self._ignored(items)).to(device))
        told = sum(one is not None for one in asked)
        if not told:
            return found
        return (found + self.config.alpha * costs.sum() / told) / (1 + self.config.alpha)

    def below(self, items: Ints) -> list[Tensor] | None:
        """What the lower layers make of these texts, where it is kept; ``None`` elsewhere."""
        if self._below is None:
            return None
        new = [int(item) for item in items if int(item) not in self._below]
        for part in by_length([len(self.rows[item]) for item in new], self.config.tokens_at_once):
            chosen = [new[place] for place in part]
            found = self.network.below([self.rows[item] for item in chosen])
            self._below.update(zip(chosen, found, strict=True))
        return [self._below[int(item)] for item in items]

    def encode(self, items: Ints) -> NDArray[np.float32]:
        """``float32[items, dimension]`` of these texts as they are now."""
        self.eval()
        return self.network.encode_tokens([self.rows[int(item)] for item in items], below=self.below(items))

    def _read(
        self, rows: Sequence[Sequence[int]], asked: Sequence[Asked | None], below: Sequence[Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        """Vectors and costs of all rows, part by part, in their order."""
        lengths = [
            len(row) + (1 + len(more.question) + len(more.answer) if more else 0)
            for row, more in zip(rows, asked, strict=True)
        ]
        order, vectors, costs = list[int](), list[Tensor](), list[Tensor]()
        for part in by_length(lengths, self.config.tokens_at_once):
            given = (
                [rows[place] for place in part],
                [asked[place] for place in part],
                None if below is None else [below[place] for place in part],
            )
            if self.config.cached_gradients and torch.is_grad_enabled():
                found = checkpoint(self.network, *given, use_reentrant=False)
            else:
                found = self.network(*given)
            vectors.append(found[0])
            costs.append(found[1])
            order += part
        back = torch.from_numpy(np.argsort(order)).to(vectors[0].device)
        return torch.cat(vectors)[back], torch.cat(costs)[back]

    def _asked(self, items: Ints, questions: np.random.Generator | None) -> list[Asked | None]:
        if self._categories is None or questions is None:
            return [None] * len(items)
        about_tags = questions.random(len(items)) < self.config.tag_share
        return [self._question(int(item), bool(tags)) for item, tags in zip(items, about_tags, strict=True)]

    def _question(self, item: int, tags: bool) -> Asked | None:
        assert self._categories is not None
        known = [name for name in self._categories[item] if name.strip()]
        if not known:
            return None
        tokenizer = self.network.files.tokenizer
        said = " " + ", ".join(known if tags else known[:1]) + "\n"
        answer = tokenizer(said, add_special_tokens=False)["input_ids"][: self.config.answer_tokens]
        return Asked(self.network.question("tags" if tags else "category"), answer) if answer else None

    def step(self, left: Ints, right: Ints) -> float:
        """One step of the optimiser on one batch; returns its loss.

        Raises
        ------
        RecommenderError
            K464 the loss or its slopes are not finite; nothing was changed.
        """
        self.train()
        loss = self.loss(left, right, questions=self._rng)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        slopes = [value.grad for value in self.parameters() if value.grad is not None]
        if not math.isfinite((loss.detach() + torch.nn.utils.get_total_norm(slopes)).item()):
            raise RecommenderError(
                "K464",
                "The loss or its slopes are not finite; the tuned parameters are as they were before the step.",
                "Lower learning_rate or raise temperature.",
            )
        self.optimiser.step()
        return float(loss.item())

    def steps(self, left: Ints, right: Ints, number: int) -> list[float]:
        """Loss of each of so many steps on batches drawn from the pairs, which are gone through before any comes again.

        Raises
        ------
        RecommenderError
            K461 there are no pairs; K464 as :meth:`step`.
        """
        if not len(left):
            raise RecommenderError("K461", "There is no pair of items to learn from.", "Bring more events.")
        losses, order = list[float](), np.empty(0, dtype=np.int64)
        for _ in range(number):
            if len(order) < min(self.config.batch_pairs, len(left)):
                order = self._rng.permutation(len(left))
            batch, order = order[: self.config.batch_pairs], order[self.config.batch_pairs :]
            losses.append(self.step(left[batch], right[batch]))
        self.eval()
        return losses
