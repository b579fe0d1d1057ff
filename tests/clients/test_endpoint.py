"""``koinon serve`` and ``koinon recommend``: the same answers over HTTP, on the command line and in Python."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from koinon.cli import main as command_line
from koinon.clients.endpoint import claim_port, create_app
from koinon.clients.serving import Answer, Ask, Shop
from koinon.errors import ConfigError, ResourceError

QUESTIONS = [
    {"user": "reader-3", "k": 4},
    {"liked": ["Momo", "The Name of the Rose", "Sturmhöhe"]},
    {"query": "un roman policier à Venise", "k": 3},
    {"user": "reader-60", "liked": ["Der Zauberer von Oz"], "query": "etwas mit Drachen"},
]


class Client:
    """Asks the application itself, without a socket."""

    def __init__(self, shop: Shop) -> None:
        self.app = create_app(shop)

    def get(self, path: str) -> httpx.Response:
        return asyncio.run(self._ask("GET", path))

    def post(self, path: str, json: object) -> httpx.Response:
        return asyncio.run(self._ask("POST", path, json=json))

    async def _ask(self, method: str, path: str, **content: object) -> httpx.Response:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            return await client.request(method, path, **content)


@pytest.fixture
def client(shop: Shop) -> Client:
    return Client(shop)


@pytest.fixture(scope="module")
def served(bookshop: Path) -> Iterator[str]:
    """Address of a real ``koinon serve`` process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "koinon.cli", "serve", str(bookshop.parent.parent), "-p", "buchladen", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    said = process.stdout.readline()
    address = re.search(r"http://\S+:\d+", said)
    assert address is not None, said + process.stdout.read()
    yield address[0]
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=30)[0]
    assert process.returncode == 0, rest
    assert "stopped" in rest
    assert "reader-" not in said + rest


def _arguments(question: dict[str, object]) -> list[str]:
    arguments = []
    for key, value in question.items():
        for one in value if isinstance(value, list) else [value]:
            arguments += ["-k" if key == "k" else f"--{key}", str(one)]
    return arguments


@pytest.mark.parametrize("question", QUESTIONS)
def test_command_line_http_and_python_answer_the_same(
    question: dict[str, object], shop: Shop, bookshop: Path, served: str, capsys: pytest.CaptureFixture[str]
):
    expected = shop.answer(Ask.model_validate(question))
    assert command_line.run(["recommend", str(bookshop), "--json", *_arguments(question)]) == 0
    assert Answer.model_validate_json(capsys.readouterr().out) == expected
    response = httpx.post(f"{served}/recommend", json=question, timeout=60)
    assert response.status_code == 200
    assert Answer.model_validate(response.json()) == expected


def test_health_says_what_is_served(client: Client):
    assert client.get("/health").json() == {"status": "ok", "partner": "buchladen", "arm": "local_space", "items": 20}


def test_the_documentation_loads_nothing_from_elsewhere(client: Client):
    page = client.get("/docs").text
    assert "buchladen" in page
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", page)
    assert client.get("/openapi.json").json()["paths"].keys() == {"/recommend", "/health"}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"user": "nobody"}, 404, "K450"),
        ({}, 422, "K452"),
        ({"k": 0, "user": "reader-1"}, 422, "K455"),
        ({"usr": "reader-1"}, 422, "K455"),
        ([], 422, "K455"),
    ],
)
def test_an_error_is_json_with_code_message_remedy_and_the_right_status(
    client: Client, body: object, status: int, code: str
):
    response = client.post("/recommend", json=body)
    assert response.status_code == status
    assert response.json().keys() == {"code", "message", "remedy"}
    assert response.json()["code"] == code


def test_a_local_endpoint_answers_to_local_names_alone(served: str):
    port = served.rpartition(":")[2]
    for name, status in ((f"localhost:{port}", 200), (f"127.0.0.1:{port}", 200), ("evil.example", 400)):
        assert httpx.get(f"{served}/health", headers={"host": name}, timeout=30).status_code == status


def test_an_unforeseen_fault_tells_neither_the_caller_nor_the_log_what_was_asked(
    shop: Shop, client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def fail(_ask: Ask) -> Answer:
        raise ValueError("reader-3 asked")

    monkeypatch.setattr(shop, "answer", fail)
    with caplog.at_level(logging.DEBUG, logger="koinon.serve"):
        response = client.post("/recommend", json={"user": "reader-3"})
    assert response.status_code == 500
    assert response.json()["code"] == "K099"
    assert "reader-3" not in response.text + caplog.text


def test_a_port_that_is_taken_is_one_clear_error_before_any_model_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ResourceError) as caught:
            claim_port("127.0.0.1", port)
        assert caught.value.code == "K821"
        assert command_line.run(["serve", str(tmp_path), "--port", str(port)]) == ResourceError.exit_code
    assert "[K821]" in capsys.readouterr().err


def test_an_address_that_does_not_exist_is_named():
    with pytest.raises(ConfigError) as caught:
        claim_port("no-such-host.invalid", 0)
    assert caught.value.code == "K122"


def test_a_table_shows_titles_reasons_and_how_titles_were_understood(
    bookshop: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "160")
    line = ["recommend", str(bookshop), "--liked", "Momo", "--liked", "The Name of the Rose", "--liked", "Sturmhöhe"]
    assert command_line.run(line) == 0
    said = capsys.readouterr().out
    assert "“Momo” is in the catalogue: Momo" in said
    assert "nearest in meaning" in said
    assert "“Sturmhöhe” is not in the catalogue" in said
    assert "goes with" in said
    assert "buchladen, local_space; from 2 titles found in the catalogue, 1 title read as text." in said


def test_a_table_says_how_a_wish_was_understood(
    bookshop: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "160")
    line = ["recommend", str(bookshop), "-q", "ein Krimi, aber nicht von Henning Mankell", "--clarify"]
    assert command_line.run(line) == 0
    said = capsys.readouterr().out
    assert "understood as: not creator Henning Mankell" in said
    assert "Die fünfte Frau" not in said


def test_a_reader_from_abroad_is_asked_about_with_the_other_partners_folder(
    bookshop: Path, other_shop: Path, capsys: pytest.CaptureFixture[str]
):
    line = ["recommend", str(bookshop), "--user", "anna", "--history-from", str(other_shop), "--json"]
    assert command_line.run(line) == 0
    assert "no history here" in json.loads(capsys.readouterr().out)["basis"]


@pytest.mark.parametrize(
    ("arguments", "code", "status"),
    [
        (["--user", "nobody"], "K450", 5),
        ([], "K452", 5),
        (["--history-from", "."], "K123", 2),
        (["--query", " "], "K124", 2),
        (["--partner", "nobody", "--user", "reader-1"], "K121", 2),
    ],
)
def test_a_question_that_cannot_be_answered_ends_with_its_code_and_status(
    bookshop: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: str, status: int
):
    assert command_line.run(["recommend", str(bookshop), *arguments, "--json"]) == status
    assert json.loads(capsys.readouterr().err)["error"]["code"] == code
