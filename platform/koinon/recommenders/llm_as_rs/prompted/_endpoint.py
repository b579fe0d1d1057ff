"""An OpenAI-compatible server as chooser: one token is asked for, and its alternatives' log-probabilities are read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from koinon.errors import RecommenderError, SpaceError
from koinon.space.chat import ChatClient

__all__ = ["Endpoint"]

_ALTERNATIVES = 20
_CODES = {"K342": "K483", "K343": "K481", "K344": "K482"}


class Endpoint:
    """``POST <url>/chat/completions`` with ``logprobs``, one question at a time, no retries.

    Parameters
    ----------
    url, model, timeout, trusted_host, key
        As :class:`koinon.space.chat.ChatClient`.

    Raises
    ------
    RecommenderError
        K483 the host is another machine and is not the trusted one, the URL is none, or httpx is not installed.
    """

    def __init__(
        self, url: str, model: str, *, timeout: float = 30.0, trusted_host: str | None = None, key: str | None = None
    ) -> None:
        with _own_codes():
            self._client = ChatClient(url, model, timeout=timeout, trusted_host=trusted_host, key=key)
        self.url = self._client.url

    def read(self, text: str, after: str | None = None) -> str:
        """Return the text after what came before; the server sees it with each question."""
        return (after or "") + text

    def choices(self, after: str, texts: Sequence[str], answers: Sequence[str]) -> NDArray[np.float32]:
        """``float32[texts, answers]``: log-probabilities; an answer that is not among those told gets the least told.

        Raises
        ------
        RecommenderError
            K481 no answer in time, K482 an answer that is not what the interface prescribes.
        """
        names = [answer.strip() for answer in answers]
        with _own_codes():
            rows = [self._named(self._alternatives(after + text), names) for text in texts]
        return np.array(rows, dtype=np.float32).reshape(len(texts), len(names))

    def _named(self, told: dict[str, float], names: Sequence[str]) -> list[float]:
        if not any(name in told for name in names):
            raise self._client.malformed(f"none of {', '.join(names)} is among the answers told")
        least = min(told.values())
        return [told.get(name, least) for name in names]

    def _alternatives(self, prompt: str) -> dict[str, float]:
        settings = {"max_tokens": 1, "temperature": 0, "logprobs": True, "top_logprobs": _ALTERNATIVES}
        answer = self._client.ask(prompt, settings)
        try:
            told = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
            pairs = [(str(one["token"]).strip(), float(one["logprob"])) for one in told]
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise self._client.malformed(f"{type(error).__name__}: {error}") from error
        if not pairs or any(math.isnan(value) or value > 1e-3 for _, value in pairs):
            raise self._client.malformed("log-probabilities that are none")
        found: dict[str, float] = {}
        for name, value in pairs:  # `A` and ` A` are one answer
            found[name] = float(np.logaddexp(found.get(name, -math.inf), value))
        finite = [value for value in found.values() if math.isfinite(value)]
        if not finite:
            raise self._client.malformed("log-probabilities that are none")
        return {name: max(value, min(finite)) for name, value in found.items()}


@contextmanager
def _own_codes() -> Iterator[None]:
    """What the client raises, as a recommender's error."""
    try:
        yield
    except SpaceError as error:
        remedy = error.remedy
        if error.code == "K344":
            remedy = "It must offer chat completions with `logprobs` and `top_logprobs`."
        raise RecommenderError(_CODES[error.code], error.message, remedy) from error
