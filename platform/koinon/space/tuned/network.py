"""A language model that compresses a text into one vector, with the parts that are tuned.

The form is NoteLLM's (Zhang et al. 2024, arXiv 2403.01744, section 4): a prompt asks a decoder for the text in one
word; the state that predicts this word goes through a linear map and is the text's vector. After the word the model may
be asked for a category or tags. An encoder model has no prompt and asks nothing; its pooled state goes through the map.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from koinon.errors import SpaceError
from koinon.space.batches import by_length, tokens_at_once
from koinon.space.cached import check_texts
from koinon.space.encoders import Encoder, Progress
from koinon.space.lora import with_lora
from koinon.space.transformer import TransformerEncoder
from koinon.space.tuned.lower import read_until, started_at
from koinon.space.tuned.mapped import MappedNetwork
from koinon.space.tuned.wording import CompressionConfig, Task

__all__ = ["Asked", "TextNetwork", "network_over"]

Rows = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Asked:
    """What a decoder is asked after a text's word, and the answer it should give: token ids."""

    question: Sequence[int]
    answer: Sequence[int]


class TextNetwork(MappedNetwork):
    """Texts to unit vectors, differentiable in LoRA, the map and the word's embedding.

    The encoder's network is changed in place: open another for the untuned vectors.

    Parameters
    ----------
    encoder
        From :func:`koinon.space.open_encoder`; its own prompt is not used.
    config
        Prompt, length, LoRA, dimension.

    Raises
    ------
    SpaceError
        K318 an encoder that cannot be tuned; K301 peft is missing; K303-K305 as for encoders; K331 no such layers.
    """

    def __init__(self, encoder: Encoder, config: CompressionConfig | None = None) -> None:
        if not isinstance(encoder, TransformerEncoder):
            raise SpaceError(
                "K318",
                f"Encoder `{encoder.uri}` cannot be tuned inside.",
                "Take `minilm-english`, `hf:` or `gguf:`; or learn a map over it alone (epochs = 0).",
            )
        super().__init__(encoder, config)
        self.files, self.decodes = encoder, encoder.decodes
        self._head: list[nn.Module] = []  # a list, so that frozen weights are none of this module's
        backbone = self._open()
        self.tuned = with_lora(backbone, self.config.lora, named=encoder.uri)
        self._backbone = [backbone]
        self._precision = next(backbone.parameters()).dtype
        self._mixed = self._precision in (torch.bfloat16, torch.float16)
        self.word = nn.Parameter(self._first_word()) if self.decodes else None

    def train(self, mode: bool = True) -> TextNetwork:
        """Let LoRA's dropout work, or not; the frozen model's own always rests."""
        super().train(mode)
        self.tuned.eval()
        for name, module in self.tuned.named_modules():
            if "lora_dropout" in name:
                module.train(mode)
        return self

    def _open(self) -> nn.Module:
        from transformers import AutoModelForCausalLM

        if not self.decodes:
            return self.files.model
        whole: Any = self.files.load(AutoModelForCausalLM)
        self._head.append(whole.get_output_embeddings())
        return cast(nn.Module, whole.base_model)

    def _first_word(self) -> Tensor:
        """The word's embedding before training: that of the token by which a text ends."""
        tokenizer = self.files.tokenizer
        token = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.pad_token_id
        with torch.no_grad():
            found: Tensor = self._embeddings(torch.tensor([token], device=self.device))
        return found[0].float().clone()

    def _embeddings(self, tokens: Tensor) -> Tensor:
        backbone: Any = self._backbone[0]
        found: Tensor = backbone.get_input_embeddings()(tokens)
        return found

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text with the prompt around it.

        A text that is too long is cut, the prompt is not. Tokens that steer a model are never made of a text's own
        characters. SpaceError K308 for what is no text.
        """
        if not texts:
            return []
        before, after = self._around
        rows = self.files.tokenizer(check_texts(texts), add_special_tokens=False)["input_ids"]
        most = min(self.config.text_tokens, self.longest - len(before) - len(after))
        inside = [[token for token in row if token not in self._steering][:most] for row in rows]
        return [[*before, *row, *after] or [self.files.tokenizer.pad_token_id] for row in inside]

    @cached_property
    def longest(self) -> int:
        """Tokens that the network can take in all."""
        limit = getattr(self.files.text_config, "max_position_embeddings", None)
        return limit if isinstance(limit, int) and limit > 0 else 2048

    @cached_property
    def _steering(self) -> frozenset[int]:
        tokenizer = self.files.tokenizer
        return frozenset((*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder)) - {tokenizer.unk_token_id}

    @cached_property
    def _around(self) -> tuple[list[int], list[int]]:
        """Token ids before and after every text."""
        tokenizer = self.files.tokenizer
        if self.decodes:
            words, begin = self.config.words, tokenizer.bos_token_id
            before, after = (
                tokenizer(part, add_special_tokens=False)["input_ids"] for part in (words.before, words.after)
            )
            return [*([] if begin is None else [begin]), *before], list(after)
        bare, dressed = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (False, True))
        at = next((n for n in range(len(dressed)) if dressed[n : n + len(bare)] == bare), 0)
        return list(dressed[:at]), list(dressed[at + len(bare) :])

    def question(self, task: Task) -> list[int]:
        """Token ids that ask for the category or for tags, after the word."""
        return list(self.files.tokenizer(getattr(self.config.words, task), add_special_tokens=False)["input_ids"])

    def forward(
        self, rows: Rows, asked: Sequence[Asked | None] | None = None, below: Sequence[Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Vectors of one batch, and how badly the model answers.

        Parameters
        ----------
        rows
            From :meth:`tokens`.
        asked
            For each row a question and its answer, or ``None``; decoders only.
        below
            What :meth:`below` gave for each row, so that the layers below the first tuned one are left out; only where
            nothing is asked.

        Returns
        -------
        ``float32[rows, dimension]`` of norm 1, and ``float32[rows]``: mean negative log-likelihood of an answer's
        tokens; 0 where nothing is asked.
        """
        first = self.config.lora.first_layer
        with nullcontext() if below is None else started_at(self.tuned, first, below):
            states, costs = self._states(rows, asked)
        return self.vectors(states), costs

    def _decode(self, rows: Rows, asked: Sequence[Asked | None] | None) -> tuple[Tensor, Tensor]:
        """Padding stands on the right, where no token that counts sees it."""
        asked = asked or [None] * len(rows)
        blank = int(self.files.tokenizer.pad_token_id)
        whole = [
            [*row, blank, *more.question, *more.answer[:-1]] if more else list(row)
            for row, more in zip(rows, asked, strict=True)
        ]
        longest = max(map(len, whole))
        tokens = torch.tensor([[*row, *[blank] * (longest - len(row))] for row in whole], device=self.device)
        embedded = self._embeddings(tokens)
        with_word = [place for place, more in enumerate(asked) if more]
        if with_word:
            assert self.word is not None
            places = torch.tensor([len(rows[place]) for place in with_word], device=self.device)
            index = (torch.tensor(with_word, device=self.device), places)
            embedded = embedded.index_put(index, self.word.to(embedded.dtype).expand(len(with_word), -1))
        states = self.tuned(inputs_embeds=embedded, use_cache=False).last_hidden_state
        last = torch.tensor([len(row) - 1 for row in rows], device=self.device)
        vectors = states[torch.arange(len(rows), device=self.device), last].float()
        costs = torch.zeros(len(rows), device=self.device)
        if with_word:
            costs = costs.index_put((torch.tensor(with_word, device=self.device),), self._costs(rows, asked, states))
        return vectors, costs

    def _costs(self, rows: Rows, asked: Sequence[Asked | None], states: Tensor) -> Tensor:
        """Mean negative log-likelihood of each answer's tokens, ``float32[answers]``."""
        line, place, token, sizes = list[int](), list[int](), list[int](), list[int]()
        for number, (row, more) in enumerate(zip(rows, asked, strict=True)):
            if more:
                first = len(row) + len(more.question)  # the state of the question's last token predicts the answer
                line += [number] * len(more.answer)
                place += range(first, first + len(more.answer))
                token += more.answer
                sizes.append(len(more.answer))
        logits = self._head[0](states[line, place]).float()
        costs = F.cross_entropy(logits, torch.tensor(token, device=self.device), reduction="none")
        return torch.stack([part.mean() for part in torch.split(costs, sizes)])

    def below(self, rows: Rows) -> list[Tensor]:
        """What the first tuned layer is given of each row of one batch, ``[tokens, width]``; it never changes."""
        found: list[Tensor] = []
        with torch.no_grad(), read_until(self.tuned, self.config.lora.first_layer, found):
            self._states(rows, None)
        return [states[: len(row)].clone() for states, row in zip(found[0], rows, strict=True)]

    def embed(self, texts: Sequence[str]) -> Tensor:
        """``float32[texts, dimension]`` of norm 1, differentiable in what is tuned; one batch."""
        vectors: Tensor = self(self.tokens(texts))[0]
        return vectors

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """Return ``float32[texts, dimension]``, rows of L2 norm 1, in the order given."""
        return self.encode_tokens(self.tokens(texts), progress)

    def encode_tokens(
        self, rows: Rows, progress: Progress | None = None, below: Sequence[Tensor] | None = None
    ) -> NDArray[np.float32]:
        """:meth:`encode` from :meth:`tokens`, and from :meth:`below` where it is given; rows of like length share
        batches.
        """

        def one(batch: Sequence[int]) -> Tensor:
            given = None if below is None else [below[place] for place in batch]
            vectors: Tensor = self([rows[place] for place in batch], None, given)[0]
            return vectors

        return self._all(rows, one, self.dimension, progress)

    def read(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """``float32[texts, width]``: what the map is given."""
        return self.states(self.tokens(texts), progress)

    def states(self, rows: Rows, progress: Progress | None = None) -> NDArray[np.float32]:
        """:meth:`read` from :meth:`tokens`."""
        return self._all(
            rows, lambda batch: self._states([rows[place] for place in batch], None)[0], self.files.dimension, progress
        )

    def _states(self, rows: Rows, asked: Sequence[Asked | None] | None) -> tuple[Tensor, Tensor]:
        """Beside frozen weights of 16 bits LoRA's, which are of 32, compute in 16 too."""
        with torch.autocast(torch.device(self.device).type, self._precision, enabled=self._mixed):
            if self.decodes:
                return self._decode(rows, asked)
            return self.files.pooled_by(self.tuned, rows), torch.zeros(len(rows), device=self.device)

    def _all(
        self, rows: Rows, one: Callable[[Sequence[int]], Tensor], width: int, progress: Progress | None
    ) -> NDArray[np.float32]:
        found = np.empty((len(rows), width), dtype=np.float32)
        done = 0
        with torch.inference_mode():
            for batch in by_length([len(row) for row in rows], tokens_at_once(self.device)):
                found[batch] = one(batch).float().cpu().numpy()
                done += len(batch)
                if progress:
                    progress(done, len(rows))
        return found

    def write(self, rows: Rows, question: Sequence[int], most_tokens: int) -> list[str]:
        """What the decoder writes after each row's word and the question, the likeliest token each time.

        Parameters
        ----------
        rows
            From :meth:`tokens`, all of one length.
        question
            From :meth:`question`.
        most_tokens
            Written at most; a line's end or a token that steers the model ends a text.
        """
        assert self.word is not None
        tokenizer = self.files.tokenizer
        with torch.inference_mode():
            read = self._embeddings(torch.tensor([[*row, *question] for row in rows], device=self.device))
            word = self.word.to(read.dtype).expand(len(rows), 1, -1)
            given = torch.cat((read[:, : len(rows[0])], word, read[:, len(rows[0]) :]), dim=1)
            written: list[list[int]] = [[] for _ in rows]
            over, cache = [False] * len(rows), None
            for _ in range(most_tokens):
                found = self.tuned(inputs_embeds=given, past_key_values=cache, use_cache=True)
                cache = found.past_key_values
                chosen = self._head[0](found.last_hidden_state[:, -1]).float().argmax(dim=1)
                for place, token in enumerate(chosen.tolist()):
                    over[place] = over[place] or token in self._steering
                    if not over[place]:
                        written[place].append(token)
                        over[place] = "\n" in tokenizer.decode(written[place]).lstrip()
                if all(over):
                    break
                given = self._embeddings(chosen[:, None])
        return [tokenizer.decode(tokens) for tokens in written]

    def merge(self) -> None:
        """Put LoRA into the weights, for good: the network is then as fast as the untuned one and cannot be trained."""
        peft: Any = self.tuned
        self.tuned, self._mixed = peft.merge_and_unload(), False
        self.requires_grad_(False)


def network_over(encoder: Encoder, config: CompressionConfig | None = None) -> MappedNetwork:
    """What can be tuned over an encoder: LoRA and a map where its layers can be reached, elsewhere a map alone."""
    return (TextNetwork if isinstance(encoder, TransformerEncoder) else MappedNetwork)(encoder, config)
