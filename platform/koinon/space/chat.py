"""The client of an OpenAI-compatible server: one question, one whole answer under one deadline, no retries.

What is asked may quote what people chose, so another machine than this one is refused unless it is named. Redirects and
proxies are not followed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from koinon.errors import SpaceError

__all__ = ["ChatClient"]

_MOST_BYTES = 1 << 20
_LOCAL = ("127.0.0.1", "::1", "localhost")


class ChatClient:
    """``POST <url>/chat/completions``.

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
    SpaceError
        K342 httpx is not installed, the URL is none, or the host is another machine and is not the trusted one.
    """

    def __init__(
        self, url: str, model: str, *, timeout: float = 30.0, trusted_host: str | None = None, key: str | None = None
    ) -> None:
        if find_spec("httpx") is None:
            raise SpaceError("K342", "An endpoint needs the package httpx.", "`pip install 'koinon[llm]'`.")
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SpaceError("K342", f"{url!r} is no endpoint.", "Give a URL such as http://127.0.0.1:8080/v1.")
        if parts.hostname not in (*_LOCAL, trusted_host):
            raise SpaceError(
                "K342",
                f"The endpoint is at {parts.hostname}, and would hear what people chose.",
                "Use a server on this machine, or say `trusted_host` if it may.",
            )
        self.url, self.model, self.timeout = url.rstrip("/"), model, timeout
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}

    def ask(self, prompt: str, settings: Mapping[str, Any]) -> Any:
        """Return the answer's JSON to one user's turn; ``settings`` are the body's other members.

        Raises
        ------
        SpaceError
            K343 no whole answer in time, K344 an answer that is no JSON or too long.
        """
        body = {"model": self.model, "messages": [{"role": "user", "content": prompt}], **settings}
        with ThreadPoolExecutor(1) as aside:  # whoever calls may have an event loop of its own
            content = aside.submit(asyncio.run, self._answer(json.dumps(body).encode())).result()
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            raise self.malformed(f"{type(error).__name__}: {error}") from error

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
                        raise self.malformed("more than a mebibyte")
        except TimeoutError as error:
            raise self._failed(f"no whole answer within {self.timeout:g} s") from error
        except httpx.HTTPError as error:
            raise self._failed(f"{type(error).__name__}: {error}") from error
        return content

    def _failed(self, why: str) -> SpaceError:
        return SpaceError("K343", f"The endpoint {self.url} did not answer: {why}.", "Start it, or raise `timeout`.")

    def malformed(self, why: str) -> SpaceError:
        """An error to raise: the server answered, but not what was asked for."""
        return SpaceError(
            "K344",
            f"The endpoint {self.url} answered something that cannot be used: {why}.",
            "It must offer chat completions.",
        )
