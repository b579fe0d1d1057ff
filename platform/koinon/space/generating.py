"""Language models as writers: texts from prompts, in batches, within limits of tokens and of time.

What a writer has written is kept by :mod:`koinon.space.written`, which asks for nothing twice, and what is of no use is
told by :mod:`koinon.space.nonsense`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Literal, Protocol

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from koinon.config import Config
from koinon.errors import SpaceError
from koinon.space.chat import ChatClient
from koinon.space.language import LanguageModel, open_language_model

__all__ = ["EndpointWriter", "LocalWriter", "Writer", "Writing", "WritingConfig", "open_writer"]

_MARK = "\u2063koinon\u2063"


class WritingConfig(Config):
    """How a text is written."""

    most_tokens: int = Field(default=48, ge=1, le=2048)
    """Of one text."""
    seconds: float = Field(default=120.0, gt=0.0)
    """Of a batch at the most, or of one answer of an endpoint; a text that is not whole by then ends there."""
    temperature: float = Field(default=0.0, ge=0.0, le=2.0)
    """0: always the likeliest token."""
    likeliest: int = Field(default=50, ge=1)
    """Above temperature 0, only so many tokens are drawn from."""
    no_repeat: int = Field(default=0, ge=0)
    """No sequence of so many tokens is written twice in a text; 0: anything goes. A local model's alone."""
    stop: tuple[str, ...] = ("\n",)
    """A text ends before the first of these."""
    turn: Literal["chat", "plain"] = "chat"
    """``chat``: the prompt is a user's turn where the model has a template for it; ``plain``: it is continued."""
    batch: int = Field(default=16, ge=1)
    """Texts written at once."""
    seed: int = Field(default=0, ge=0)
    """Of what is drawn; each prompt has draws of its own, whatever stands beside it in the batch."""

    @property
    def content(self) -> dict[str, Any]:
        """What a text depends on: not how long one waits for it, nor how many are written at once."""
        return self.model_dump(mode="json", exclude={"seconds", "batch"})


@dataclass(frozen=True)
class Writing:
    """One text as it came.

    Attributes
    ----------
    text
        Without surrounding white space.
    end
        ``stop``: one of the stop strings or the model's own end; ``length``, ``time``: a limit.
    tokens
        Written; 0 where an endpoint does not say.
    """

    text: str
    end: Literal["stop", "length", "time"]
    tokens: int


class Writer(Protocol):
    """Whatever writes texts."""

    together: bool
    """Whether several prompts at once are faster than one after another."""

    @property
    def name(self) -> str:
        """What stands on record as the model."""
        ...

    @property
    def fingerprint(self) -> str:
        """Equal for equal writers only, as far as that can be known."""
        ...

    def write(self, prompts: Sequence[str], config: WritingConfig) -> list[Writing]:
        """One text for each prompt; at most ``config.batch`` prompts at once."""
        ...


class LocalWriter:
    """A decoder language model that writes.

    The prompt's characters never become tokens that steer the model, and a text ends at the first such token.
    """

    together = True

    def __init__(self, model: LanguageModel) -> None:
        self.model = model

    @property
    def name(self) -> str:
        """The model's URI."""
        return self.model.uri

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over weights, tokenizer and precision."""
        return self.model.fingerprint

    def write(self, prompts: Sequence[str], config: WritingConfig) -> list[Writing]:
        """One text for each prompt, all in one batch.

        Raises
        ------
        SpaceError
            K313 a prompt and its text are longer than the model can take.
        """
        if not prompts:
            return []
        rows = self._rows(prompts, config)
        longest = max(map(len, rows)) + config.most_tokens
        if longest > self.model.longest:
            raise SpaceError(
                "K313",
                f"A prompt and its text have up to {longest} tokens; `{self.name}` takes {self.model.longest}.",
                "Ask with a shorter prompt or for fewer tokens.",
            )
        with torch.inference_mode():
            return self._continue(rows, config, [_draws(config.seed, prompt) for prompt in prompts])

    def _rows(self, prompts: Sequence[str], config: WritingConfig) -> list[list[int]]:
        """Tokens of each prompt, a template's around the prompt's own."""
        tokenizer = self.model.files.tokenizer
        before, after = [tokenizer.bos_token_id], list[int]()
        if config.turn == "chat" and getattr(tokenizer, "chat_template", None):
            said = tokenizer.apply_chat_template(
                [{"role": "user", "content": _MARK}], tokenize=False, add_generation_prompt=True
            )
            before, after = (tokenizer(part, add_special_tokens=False)["input_ids"] for part in said.split(_MARK))
        start = [token for token in before if token is not None]
        rows = [[*start, *row, *after] for row in self.model.tokens(list(prompts))]
        return [row or [tokenizer.pad_token_id] for row in rows]

    def _continue(
        self, rows: Sequence[Sequence[int]], config: WritingConfig, draws: Sequence[np.random.Generator]
    ) -> list[Writing]:
        """Token after token; rows are padded on the left, which no token sees."""
        device, began = self.model.device, monotonic()
        longest = max(map(len, rows))
        tokens = torch.zeros((len(rows), longest), dtype=torch.long, device=device)
        mask = torch.zeros_like(tokens)
        for place, row in enumerate(rows):
            tokens[place, longest - len(row) :] = torch.tensor(row, device=device)
            mask[place, longest - len(row) :] = 1
        texts = [_Text(self.model, config) for _ in rows]
        cache: Any = None
        while True:
            positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
            found = self.model.network(
                input_ids=tokens,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            cache = found.past_key_values
            logits = found.logits[:, -1].float()
            chosen = [text.choose(row, drawn) for text, row, drawn in zip(texts, logits, draws, strict=True)]
            if monotonic() - began >= config.seconds:
                for text in texts:
                    text.end = text.end or "time"
            if all(text.end for text in texts):
                return [text.finished() for text in texts]
            tokens = torch.tensor(chosen, dtype=torch.long, device=device)[:, None]
            mask = torch.cat((mask, torch.ones_like(tokens)), dim=1)


class _Text:
    """One text while it is being written."""

    def __init__(self, model: LanguageModel, config: WritingConfig) -> None:
        self.model, self.config = model, config
        self.tokens: list[int] = []
        self.text = ""
        self.end: Literal["stop", "length", "time"] | None = None

    def choose(self, logits: Tensor, draws: np.random.Generator) -> int:
        """Take the next token, unless the text has ended."""
        if self.end:
            return 0
        if self.config.no_repeat:
            logits[self._repeating()] = -torch.inf
        token = int(logits.argmax()) if self.config.temperature == 0 else self._drawn(logits, draws)
        if token in self.model.steering:
            self.end = "stop"
            return token
        self.tokens.append(token)
        self.text = self.model.files.tokenizer.decode(self.tokens, skip_special_tokens=True)
        begun = self.text.lstrip()  # a model may begin with the line break that would end it
        found = [place for stop in self.config.stop if (place := begun.find(stop)) >= 0]
        if found:
            self.text, self.end = begun[: min(found)], "stop"
        elif len(self.tokens) >= self.config.most_tokens:
            self.end = "length"
        return token

    def finished(self) -> Writing:
        assert self.end is not None
        return Writing(self.text.strip(), self.end, len(self.tokens))

    def _drawn(self, logits: Tensor, draws: np.random.Generator) -> int:
        values, places = logits.topk(min(self.config.likeliest, len(logits)))
        chances = torch.softmax(values.double() / self.config.temperature, dim=0).cpu().numpy()
        return int(places[int(draws.choice(len(chances), p=chances / chances.sum()))])

    def _repeating(self) -> list[int]:
        """Tokens that would end a sequence which stands in the text already."""
        size = self.config.no_repeat
        tail = self.tokens[len(self.tokens) - size + 1 :] if size > 1 else []
        spans = range(len(self.tokens) - size + 1)
        return [self.tokens[at + size - 1] for at in spans if self.tokens[at : at + size - 1] == tail]


class EndpointWriter:
    """An OpenAI-compatible server that writes, one prompt after another.

    Whether its model is still the same cannot be known: the fingerprint is of its address and of the model's name.
    """

    together = False

    def __init__(self, client: ChatClient) -> None:
        self.client = client

    @property
    def name(self) -> str:
        """Address and model."""
        return f"{self.client.url} {self.client.model}"

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over the name."""
        return hashlib.sha256(self.name.encode()).hexdigest()

    def write(self, prompts: Sequence[str], config: WritingConfig) -> list[Writing]:
        """One text for each prompt; the client's own time limit holds for each.

        Raises
        ------
        SpaceError
            K343 no answer in time, K344 an answer that is not what the interface prescribes.
        """
        return [self._one(prompt, config) for prompt in prompts]

    def _one(self, prompt: str, config: WritingConfig) -> Writing:
        settings: dict[str, Any] = {"max_tokens": config.most_tokens, "temperature": config.temperature}
        answer = self.client.ask(prompt, {**settings, "seed": config.seed})
        try:
            choice = answer["choices"][0]
            text = choice["message"]["content"]
        except (KeyError, IndexError, TypeError) as error:
            raise self.client.malformed(f"{type(error).__name__}: {error}") from error
        if not isinstance(text, str | None):
            raise self.client.malformed("a message that is no text")
        begun = (text or "").lstrip()
        # stop strings are looked for here: servers differ in what they make of a line break at the beginning
        found = [place for stop in config.stop if (place := begun.find(stop)) >= 0]
        cut = begun[: min(found)] if found else begun
        ended = found or not isinstance(choice, dict) or choice.get("finish_reason") != "length"
        return Writing(cut.strip(), "stop" if ended else "length", 0)


def open_writer(
    model: str | None = None,
    *,
    endpoint: str | None = None,
    endpoint_model: str = "default",
    trusted_host: str | None = None,
    timeout: float = 120.0,
    device: str = "cpu",
) -> Writer:
    """Open a writer: a local decoder by its URI, or a server by its address.

    Parameters
    ----------
    model, device
        As :func:`koinon.space.language.open_language_model`.
    endpoint, endpoint_model, trusted_host, timeout
        As :class:`koinon.space.chat.ChatClient`.

    Raises
    ------
    SpaceError
        K342 neither or both are named, or the endpoint is not to be asked; K300-K306, K312 as for language models.
    """
    if (model is None) == (endpoint is None):
        raise SpaceError("K342", "A writer is a model or an endpoint.", "Name exactly one of `model` and `endpoint`.")
    if endpoint is not None:
        return EndpointWriter(ChatClient(endpoint, endpoint_model, timeout=timeout, trusted_host=trusted_host))
    assert model is not None
    return LocalWriter(open_language_model(model, device=device))


def _draws(seed: int, prompt: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}\x1f{prompt}".encode("utf-8", "replace")).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))
