"""An OpenAI-compatible endpoint that is sound, down, slow, or answers nonsense: a real server on this machine."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from koinon.errors import RecommenderError
from koinon.recommenders import Request
from koinon.recommenders.conventional import Popularity
from koinon.recommenders.llm_as_rs.prompted import Endpoint, PromptedConfig, PromptedRanker

pytest.importorskip("httpx")


def answer(alternatives) -> bytes:
    told = [{"token": token, "logprob": value} for token, value in alternatives]
    message = {"message": {"role": "assistant", "content": "A"}, "logprobs": {"content": [{"top_logprobs": told}]}}
    return json.dumps({"choices": [message]}).encode()


class Server(ThreadingHTTPServer):
    """Answers ``reply(request's body) -> bytes``, or whatever ``behave`` does with the handler."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.heard: list[dict] = []
        self.reply = lambda body: answer([("A", -0.1), (" B", -2.0)])
        self.behave = None
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.heard.append(body | {"path": self.path})
        if self.server.behave is not None:
            self.server.behave(self)
            return
        content = self.server.reply(body)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    running = Server()
    yield running
    running.shutdown()
    running.server_close()


def test_alternatives_become_log_probabilities_of_the_letters(server):
    server.reply = lambda _: answer([("B", -0.2), (" B", -3.0), ("A", -1.5), ("x", -4.0)])
    found = Endpoint(server.url, "small").choices("history", ["question"], [" A", " B", " C"])
    np.testing.assert_allclose(found, [[-1.5, np.logaddexp(-0.2, -3.0), -4.0]], rtol=1e-6)
    (heard,) = server.heard
    assert heard["path"] == "/v1/chat/completions"
    assert heard["messages"][0]["content"] == "historyquestion"
    assert (heard["max_tokens"], heard["logprobs"], heard["model"]) == (1, True, "small")


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"<html>", b"\xff\xfe", b"null", b'{"choices": []}', b"[" * 100_000,
        b'{"choices": [{"message": {"content": "A"}}]}', b'{"choices": [{"logprobs": null}]}',
        answer([]), answer([("x", -1.0)]), answer([("A", "much")]), answer([("A", 3.0)]), answer([("A", float("nan"))]),
        answer([("A", float("-inf"))]), b"x" * (2 << 20),
    ],
)  # fmt: skip
def test_an_answer_that_cannot_be_used_is_a_clear_error(server, content):
    server.reply = lambda _: content
    with pytest.raises(RecommenderError, match="K482"):
        Endpoint(server.url, "small").choices("", ["question"], [" A", " B"])


def drip(handler) -> None:
    """A byte now and then, for ever."""
    handler.send_response(200)
    handler.end_headers()
    try:
        for _ in range(200):
            handler.wfile.write(b" ")
            time.sleep(0.05)
    except OSError:
        pass


def drip_headers(handler) -> None:
    """Not even the head of the answer ever ends."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    try:
        for _ in range(200):
            handler.wfile.write(b"a")
            time.sleep(0.05)
    except OSError:
        pass


def refuse(handler) -> None:
    handler.send_error(503)


def redirect(handler) -> None:
    handler.send_response(307)
    handler.send_header("Location", "http://elsewhere.invalid/")
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def hang(handler) -> None:
    time.sleep(1.5)


@pytest.mark.parametrize("behaviour", [drip, drip_headers, refuse, redirect, hang])
def test_an_endpoint_that_does_not_answer_in_time_is_a_clear_error(server, behaviour):
    server.behave = behaviour
    began = time.monotonic()
    with pytest.raises(RecommenderError, match="K481"):
        Endpoint(server.url, "small", timeout=0.5).choices("", ["question"], [" A", " B"])
    assert time.monotonic() - began < 8  # the dripping would take ten


def test_an_endpoint_that_is_down_is_a_clear_error_or_the_bases_order(shop, server):
    url = server.url
    server.shutdown()
    server.server_close()
    base = Popularity().fit(shop.train, None, rng=np.random.default_rng(0))
    request = Request(np.array([1, 2], dtype=np.int32))
    settings = {"ask": "choice", "endpoint": url, "candidates": 6, "group": 3, "timeout": 2.0}
    with pytest.raises(RecommenderError, match="K481"):
        PromptedRanker(PromptedConfig(**settings), base=base).adopt(shop.train).recommend([request], 6)
    kind = PromptedRanker(PromptedConfig(**settings, on_failure="base"), base=base).adopt(shop.train)
    assert [one.item for one in kind.recommend([request], 6)[0]] == [
        one.item for one in base.recommend([request], 6)[0]
    ]
    assert [error.code for error in kind.failures] == ["K481"]


def test_a_ranker_asks_the_endpoint_about_titles_alone(shop, server):
    server.reply = lambda _: answer([(letter, -float(place)) for place, letter in enumerate("ABC")])
    base = Popularity().fit(shop.train, None, rng=np.random.default_rng(0))
    settings = PromptedConfig(ask="choice", endpoint=server.url, candidates=6, group=3)
    PromptedRanker(settings, base=base).adopt(shop.train).score([Request(np.array([1, 2], dtype=np.int32), user=7)])
    said = " ".join(heard["messages"][0]["content"] for heard in server.heard)
    assert "Title 2" in said
    assert not any(user in said for user in shop.train.user_ids)
    assert len(server.heard) == 8  # two groups in both orders, with and without the history


def test_people_are_not_told_of_to_another_machine_unless_it_is_named():
    for url in ("http://example.org/v1", "http://127.0.0.1.example.org/v1", "http://user@example.org/v1"):
        with pytest.raises(RecommenderError, match="K483"):
            Endpoint(url, "small")
    assert Endpoint("https://example.org/v1/", "small", trusted_host="example.org").url == "https://example.org/v1"
    for url in ("file:///etc/passwd", "127.0.0.1:80", "http://"):
        with pytest.raises(RecommenderError, match="K483"):
            Endpoint(url, "small")
