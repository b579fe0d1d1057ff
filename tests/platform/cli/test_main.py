"""The command line's root: fast, and the one place where errors become words and exit statuses."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from koinon.cli import main as command_line
from koinon.cli.lazy import CommandSpec, LazyCommand
from koinon.errors import DataError

FAILING = """
    import json, os, signal, sys, time
    import typer
    from koinon.errors import DataError, PrivacyError

    app = typer.Typer(add_completion=False)

    @app.command()
    def known(as_json: bool = typer.Option(False, "--json")) -> None:
        "An error of the library."
        raise DataError("K203", "line 7 of items.csv: title is empty.", "Fill it in.")

    @app.command()
    def unknown() -> None:
        "A fault of ours."
        {}["user 4711"]

    @app.command()
    def full() -> None:
        "A full disk."
        raise OSError(28, "No space left on device", "somewhere")

    @app.command()
    def missing() -> None:
        "An extra that is not installed."
        import a_package_nobody_has

    @app.command()
    def wait() -> None:
        "Something long."
        print("ready", flush=True)
        time.sleep(30)

    @app.command()
    def talk() -> None:
        "Much output."
        for _ in range(200_000):
            print("a line of output that fills the pipe")

    @app.command()
    def status() -> None:
        "A status of its own."
        raise typer.Exit(3)
"""


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A command group ``koinon failing`` whose commands go wrong in known ways."""
    (tmp_path / "failing_commands.py").write_text(textwrap.dedent(FAILING))
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = CommandSpec("failing_commands", "Goes wrong.", "Test")
    monkeypatch.setitem(command_line.root.commands, "failing", LazyCommand("failing", spec))
    yield tmp_path
    sys.modules.pop("failing_commands", None)


def _process(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    code = (
        f"import sys; sys.path.insert(0, {str(folder)!r})\n"
        "from koinon.cli import main\nfrom koinon.cli.lazy import CommandSpec, LazyCommand\n"
        "main.root.commands['failing'] = LazyCommand('failing', CommandSpec('failing_commands', 's', 'p'))\n"
        "main.main()"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_help_answers_without_importing_a_command_and_names_them_all(capsys: pytest.CaptureFixture[str]):
    assert command_line.run(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in command_line.COMMANDS)


def test_help_answers_at_once():
    code = "from koinon.cli.main import run; import sys; run(['--help']); print(*sys.modules, file=sys.stderr)"
    fastest, modules = 9.0, ""
    for _ in range(5):
        started = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        fastest, modules = min(fastest, time.perf_counter() - started), done.stderr
    assert not {"numpy", "polars", "torch", "pydantic", "fastapi"} & set(modules.split())
    assert fastest < 0.3 * max(1.0, os.getloadavg()[0])


def test_the_version_is_the_package_s(capsys: pytest.CaptureFixture[str]):
    from importlib.metadata import version

    assert command_line.run(["--version"]) == 0
    assert capsys.readouterr().out.split() == ["koinon", version("koinon")]


def test_a_near_miss_is_suggested_once(capsys: pytest.CaptureFixture[str]):
    assert command_line.run(["recomend"]) == 2
    assert capsys.readouterr().err.count("'recommend'") == 1


def test_an_error_of_the_library_is_one_line_with_code_remedy_and_its_exit_status(
    failing: Path, capsys: pytest.CaptureFixture[str]
):
    assert command_line.run(["failing", "known"]) == DataError.exit_code
    said = capsys.readouterr()
    assert said.err == "error [K203] line 7 of items.csv: title is empty. Fill it in.\n"
    assert said.out == ""


def test_with_json_an_error_is_json(failing: Path, capsys: pytest.CaptureFixture[str]):
    assert command_line.run(["failing", "known", "--json"]) == DataError.exit_code
    said = json.loads(capsys.readouterr().err)
    assert said == {
        "error": {"code": "K203", "message": "line 7 of items.csv: title is empty.", "remedy": "Fill it in."}
    }


def test_a_wrong_option_is_json_too(failing: Path, capsys: pytest.CaptureFixture[str]):
    assert command_line.run(["failing", "known", "--json", "--wrong"]) == 2
    assert json.loads(capsys.readouterr().err)["error"]["code"] == "K100"


def test_a_fault_of_ours_is_one_line_without_a_traceback(failing: Path, capsys: pytest.CaptureFixture[str]):
    assert command_line.run(["failing", "unknown"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error [K099] Unexpected KeyError")
    assert len(said.splitlines()) == 1


def test_the_traceback_is_shown_when_asked_for_wherever_the_option_stands(
    failing: Path, capsys: pytest.CaptureFixture[str]
):
    for line in (["--traceback", "failing", "unknown"], ["failing", "unknown", "--traceback"]):
        assert command_line.run(line) == 1
        assert "Traceback (most recent call last)" in capsys.readouterr().err


@pytest.mark.parametrize(("command", "code"), [("full", "K801"), ("missing", "K806")])
def test_what_the_machine_lacks_has_a_code_of_its_own(
    failing: Path, capsys: pytest.CaptureFixture[str], command: str, code: str
):
    assert errno.ENOSPC == 28
    assert command_line.run(["failing", command]) == 9
    assert f"[{code}]" in capsys.readouterr().err


def test_a_command_s_own_exit_status_is_kept(failing: Path):
    assert command_line.run(["failing", "status"]) == 3


def test_ctrl_c_is_one_line_and_130(failing: Path):
    process = _process(failing, "failing", "wait")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert len(said.strip().splitlines()) == 1


def test_a_closed_pipe_is_quiet(failing: Path):
    process = _process(failing, "failing", "talk")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(timeout=20) == 141
    process.stderr.close()
