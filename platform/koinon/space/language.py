"""Decoder language models as judges of texts: how likely a text is to follow another, and which answer they prefer.

What many texts follow is read once (:class:`Read`) and its keys and values are shared by all of them. Nothing is
generated and nothing is parsed: every answer is a log-probability.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from koinon.errors import SpaceError
from koinon.space.encoders import parse_uri
from koinon.space.transformer import TransformerEncoder, locate

__all__ = ["LanguageModel", "Read", "open_language_model"]

_KEPT_AT_ONCE = 4096
"""Tokens whose keys and values are held for one batch, the shared ones counted once for every row."""


@dataclass(frozen=True)
class Read:
    """A text that a model has read, ready to be followed by others; it is never changed.

    Attributes
    ----------
    length
        Tokens.
    cache
        Their keys and values.
    next
        ``float32[vocabulary]``: log-probability of each token that may come next.
    """

    length: int
    cache: Any
    next: Tensor


class LanguageModel:
    """A decoder language model.

    Tokens that steer a model (turns of a chat, end of text) are never made of a text's own characters: what a text
    spells out of them is left out.

    Parameters
    ----------
    files
        The model's folder as an encoder has opened it.

    Raises
    ------
    SpaceError
        K303-K305 as :func:`koinon.space.open_encoder`; K312 the model is no decoder.
    """

    def __init__(self, files: TransformerEncoder) -> None:
        self.files = files
        self.uri, self.device = files.uri, files.device

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over weights, tokenizer and precision."""
        return self.files.fingerprint

    @cached_property
    def network(self) -> Any:
        """The network with its head, in evaluation mode."""
        from transformers import AutoModelForCausalLM

        return self.files.load(AutoModelForCausalLM)

    @cached_property
    def longest(self) -> int:
        """Tokens that the network can take in all."""
        limit = getattr(self.network.config.get_text_config(), "max_position_embeddings", None)
        return limit if isinstance(limit, int) and limit > 0 else 2048

    @cached_property
    def steering(self) -> frozenset[int]:
        """Ids of tokens that steer the model: turns, end of text, padding."""
        tokenizer = self.files.tokenizer
        return frozenset((*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder))

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without any that steer the model."""
        if not texts:
            return []
        rows = self.files.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        return [[token for token in row if token not in self.steering] for row in rows]

    def read(self, text: str, after: Read | None = None) -> Read:
        """Read a text, at the beginning or after what was read before.

        Raises
        ------
        SpaceError
            K313 it is longer than the model can take.
        """
        (ids,) = self.tokens([text])
        if after is None:
            begin = self.files.tokenizer.bos_token_id
            ids = ids if begin is None else [begin, *ids]
            ids = ids or [self.files.tokenizer.pad_token_id]
        elif not ids:
            return after
        length = len(ids) + (after.length if after else 0)
        if length >= self.longest:
            raise SpaceError(
                "K313",
                f"A prompt has {length} tokens; `{self.uri}` takes {self.longest}.",
                "Ask with a shorter history, fewer examples or shorter groups.",
            )
        with torch.inference_mode():
            found = self.network(
                input_ids=torch.tensor([ids], device=self.device),
                past_key_values=None if after is None else _rows_of(after.cache, 1),
                use_cache=True,
                logits_to_keep=1,
            )
            logits = found.logits[0, -1].float()
        return Read(length, found.past_key_values, F.log_softmax(logits, dim=0))

    def likelihoods(self, after: Read, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """Log-probability of every token of each text, given what was read and the text's own tokens before it.

        Returns
        -------
        ``float32[tokens]`` for each text; a text does not see any other.
        """
        rows = self.tokens(texts)
        found = [np.zeros(0, dtype=np.float32)] * len(rows)
        for batch in self._batches(after, rows):
            inside = self._logits(after, [rows[place][:-1] for place in batch])
            for place, logits in zip(batch, inside, strict=True):
                ids = torch.tensor(rows[place], device=self.device)
                rest = logits[: len(ids) - 1].float()
                chosen = -F.cross_entropy(rest, ids[1:], reduction="none") if len(rest) else rest.new_zeros(0)
                found[place] = torch.cat((after.next[ids[:1]], chosen)).cpu().numpy()
        return found

    def choices(self, after: Read, texts: Sequence[str], answers: Sequence[str]) -> NDArray[np.float32]:
        """Log-probability of each answer's first token at the end of each text, ``float32[texts, answers]``.

        Raises
        ------
        SpaceError
            K314 two answers begin with the same token, or one has none.
        """
        first = [row[0] if row else -1 for row in self.tokens(answers)]
        if len(set(first)) < len(answers) or -1 in first:
            raise SpaceError(
                "K314", f"`{self.uri}` cannot tell {len(answers)} answers apart.", "Ask with smaller groups."
            )
        rows = self.tokens(texts)
        found = np.repeat(after.next[first].cpu().numpy()[None], len(rows), axis=0)
        for batch in self._batches(after, rows):
            shortest = len(rows[batch[-1]])
            inside = self._logits(after, [rows[place] for place in batch], first=shortest - 1)
            for place, logits in zip(batch, inside, strict=True):
                found[place] = F.log_softmax(logits[len(rows[place]) - shortest].float(), dim=0)[first].cpu().numpy()
        return found

    def _batches(self, after: Read, rows: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        """Places of rows of like length, longest first."""
        order = sorted(range(len(rows)), key=lambda place: -len(rows[place]))
        order = [place for place in order if rows[place]]
        first = 0
        while first < len(order):
            length = after.length + len(rows[order[first]])
            if length >= self.longest:
                raise SpaceError(
                    "K313",
                    f"A prompt has {length} tokens; `{self.uri}` takes {self.longest}.",
                    "Ask with a shorter history, fewer examples or shorter groups.",
                )
            size = max(1, _KEPT_AT_ONCE // length)
            yield order[first : first + size]
            first += size

    def _logits(self, after: Read, rows: Sequence[Sequence[int]], first: int = 0) -> Tensor:
        """``[rows, tokens - first, vocabulary]`` after each token from the ``first`` on.

        Rows are padded on the right, which no earlier token sees.
        """
        longest = max(map(len, rows))
        if longest == 0:
            return torch.empty((len(rows), 0, len(after.next)), device=self.device)
        tokens = torch.zeros((len(rows), longest), dtype=torch.long, device=self.device)
        for place, row in enumerate(rows):
            tokens[place, : len(row)] = torch.tensor(row, dtype=torch.long, device=self.device)
        with torch.inference_mode():
            found: Tensor = self.network(
                input_ids=tokens,
                past_key_values=_rows_of(after.cache, len(rows)),
                use_cache=True,
                logits_to_keep=longest - first,
            ).logits
        return found


def _rows_of(cache: Any, rows: int) -> Any:
    """The cache as seen by several rows; what they add is their own, and nothing is copied."""
    seen = copy.copy(cache)
    seen.layers = [copy.copy(layer) for layer in cache.layers]
    for layer in seen.layers:
        layer.keys = layer.keys.expand(rows, -1, -1, -1)
        layer.values = layer.values.expand(rows, -1, -1, -1)
    return seen


def open_language_model(uri: str, *, device: str = "cpu") -> LanguageModel:
    """Open a decoder language model by name; weights are loaded when the first text comes.

    Parameters
    ----------
    uri
        ``hf:<name or folder>[?…]`` or ``gguf:<file>[?…]``, as for encoders; ``dtype`` is the option that counts.
    device
        A torch device.

    Raises
    ------
    SpaceError
        K300-K306 as :func:`koinon.space.open_encoder`; K312 it is no decoder.
    """
    parsed = parse_uri(uri)
    if parsed.scheme not in ("hf", "gguf"):
        raise SpaceError("K312", f"`{uri}` is no language model.", "Use `hf:<name or folder>` or `gguf:<file>`.")
    files = TransformerEncoder(locate(parsed, uri), uri=uri, device=device)
    names = files.architectures
    if names and not any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in names):
        raise SpaceError("K312", f"`{uri}` is a {names[0]}, no decoder language model.", "Choose a decoder.")
    return LanguageModel(files)
