"""An OpenAI-compatible server as chooser: one token is asked for, and its alternatives' log-probabilities are read."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from koinon.errors import RecommenderError

__all__ = ["Endpoint"]

_MOST_BYTES = 1 << 20
_LOCAL = ("127.0.0.1", "::1", "localhost")
_ALTERNATIVES = 20


class Endpoint:
    """``POST <url>/chat/completions`` with ``logprobs``, one question at a time, no retries.

    Parameters
    ----------
    url
        Base URL, e.g. ``http://127.0.0.1:8080/v1``.
    model
        The name the server knows its model by.
    timeout
        Seconds for a whole answer, from connecting to the last byte.
    trusted_host
        A host other than this machine that may hear what people chose.
    key
        Sent as bearer token.

    Raises
    ------
    RecommenderError
        K480 httpx is not installed; K483 the host is another machine and is not the trusted one, or the URL is none.
    """

    def __init__(
        self, url: str, model: str, *, timeout: float = 30.0, trusted_host: str | None = None, key: str | None = None
    ) -> None:
        if find_spec("httpx") is None:
            raise RecommenderError("K480", "An endpoint needs the package httpx.", "`pip install 'koinon[llm]'`.")
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise RecommenderError("K483", f"{url!r} is no endpoint.", "Give a URL such as http://127.0.0.1:8080/v1.")
        if parts.hostname not in (*_LOCAL, trusted_host):
            raise RecommenderError(
                "K483",
                f"The endpoint is at {parts.hostname}, and would hear what people chose.",
                "Use a server on this machine, or say `trusted_host` if it may.",
            )
        self.url, self.model, self.timeout = url.rstrip("/"), model, timeout
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}

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
        rows = [self._named(self._alternatives(after + text), names) for text in texts]
        return np.array(rows, dtype=np.float32).reshape(len(texts), len(names))

    def _named(self, told: dict[str, float], names: Sequence[str]) -> list[float]:
        if not any(name in told for name in names):
            raise self._malformed(f"none of {', '.join(names)} is among the answers told")
        least = min(told.values())
        return [told.get(name, least) for name in names]

    def _alternatives(self, prompt: str) -> dict[str, float]:
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": True,
            "top_logprobs": _ALTERNATIVES,
        }
        content = self._post(json.dumps(body).encode())
        try:
            told = json.loads(content)["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
            pairs = [(str(one["token"]).strip(), float(one["logprob"])) for one in told]
        except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
            raise self._malformed(f"{type(error).__name__}: {error}") from error
        if not pairs or any(math.isnan(value) or value > 1e-3 for _, value in pairs):
            raise self._malformed("log-probabilities that are none")
        found: dict[str, float] = {}
        for name, value in pairs:  # `A` and ` A` are one answer
            found[name] = float(np.logaddexp(found.get(name, -math.inf), value))
        finite = [value for value in found.values() if math.isfinite(value)]
        if not finite:
            raise self._malformed("log-probabilities that are none")
        return {name: max(value, min(finite)) for name, value in found.items()}

    def _post(self, body: bytes) -> bytes:
        with ThreadPoolExecutor(1) as aside:  # whoever calls may have an event loop of its own
            return aside.submit(asyncio.run, self._answer(body)).result()

    async def _answer(self, body: bytes) -> bytes:
        """A whole answer under one deadline, which no number of single bytes can put off."""
        import httpx

        headers = {"Content-Type": "application/json", **self._headers}
        content = b""
        try:
            async with (
                asyncio.timeout(self.timeout),
                httpx.AsyncClient(timeout=None, follow_redirects=False, trust_env=False) as client,
                client.stream("POST", f"{self.url}/chat/completions", content=body, headers=headers) as answer,
            ):
                if answer.status_code != 200:
                    raise self._failed(f"status {answer.status_code}")
                async for part in answer.aiter_bytes():
                    content += part
                    if len(content) > _MOST_BYTES:
                        raise self._malformed("more than a mebibyte")
        except TimeoutError as error:
            raise self._failed(f"no whole answer within {self.timeout:g} s") from error
        except httpx.HTTPError as error:
            raise self._failed(f"{type(error).__name__}: {error}") from error
        return content

    def _failed(self, why: str) -> RecommenderError:
        return RecommenderError(
            "K481", f"The endpoint {self.url} did not answer: {why}.", "Start it, or raise `timeout`."
        )

    def _malformed(self, why: str) -> RecommenderError:
        return RecommenderError(
            "K482",
            f"The endpoint {self.url} answered something that cannot be used: {why}.",
            "It must offer chat completions with `logprobs` and `top_logprobs`.",
        )
