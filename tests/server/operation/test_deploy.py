"""Service units and container files: what they name is there, and what they start answers."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "docs" / "deploy"
UNITS = [DEPLOY / "koinon-host@.service", DEPLOY / "koinon-node@.service"]
INSTALLED = "/opt/koinon/bin/koinon"


def settings(unit: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def answers(arguments: list[str]) -> str:
    """Run a command of ours with ``--help``; in this process, as its entry point does."""
    from koinon.cli.main import run

    assert run([*arguments, "--help"]) == 0
    return " ".join(arguments)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_starts_a_command_that_is_there(unit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (started,) = settings(unit)["ExecStart"]
    program, *arguments = shlex.split(started)
    assert program == INSTALLED
    assert arguments.pop() == "/var/lib/koinon/%i"
    answers(arguments)
    assert "DIR" in capsys.readouterr().out


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_restarts_writes_in_one_place_and_calls_nobody(unit: Path) -> None:
    said = settings(unit)
    assert said["Restart"] == ["always"]
    assert (said["User"], said["UMask"], said["ReadWritePaths"]) == (["koinon"], ["0077"], ["/var/lib/koinon"])
    assert (said["ProtectSystem"], said["NoNewPrivileges"]) == (["strict"], ["yes"])
    assert said["CapabilityBoundingSet"] == [""]
    assert {"FLWR_TELEMETRY_ENABLED=0", "RAY_USAGE_STATS_ENABLED=0"} <= set(said["Environment"][0].split())


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze on this machine")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_takes_a_unit_as_it_is(unit: Path, tmp_path: Path) -> None:
    program = tmp_path / "koinon"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    placed = tmp_path / unit.name
    placed.write_text(unit.read_text().replace(INSTALLED, str(program)))
    done = subprocess.run(["systemd-analyze", "verify", placed], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def instructions() -> list[tuple[str, str]]:
    lines = (DEPLOY / "Containerfile").read_text().splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines) if word and word != "#"]


def test_the_image_is_built_from_what_the_package_needs() -> None:
    copied = {
        source
        for word, rest in instructions()
        if word == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    }
    assert all((ROOT / source).exists() for source in copied)
    described = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert set(described["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) <= copied
    assert {"pyproject.toml", described["project"]["readme"], "constraints.txt"} <= copied
    (extras,) = [rest for word, rest in instructions() if word == "ARG" and rest.startswith("EXTRAS")]
    named = set(extras.partition("=")[2].strip('"').split(","))
    assert named <= set(described["project"]["optional-dependencies"])


def test_an_image_starts_commands_that_are_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert ("ENTRYPOINT", '["koinon"]') in instructions()
    started = [shlex.split(rest.strip("[]").replace(",", " ")) for word, rest in instructions() if word == "CMD"]
    assert [answers(arguments[:-1]) for arguments in started] == ["federation host", "partner node"]
    assert ("USER", "koinon") in instructions(), "nobody is root"


def test_the_install_step_takes_cpu_wheels_by_an_argument_or_none() -> None:
    (step,) = [rest for word, rest in instructions() if word == "RUN" and "install" in rest]
    assert "--constraint constraints.txt" in step
    for index, expected in (
        ("", []),
        ("https://wheels.example/cpu", ["--extra-index-url", "https://wheels.example/cpu"]),
    ):
        script = step.replace("/opt/koinon/bin/pip", "printf '%s\\n'")
        found = subprocess.run(
            ["sh", "-c", script], env={"TORCH_INDEX": index, "EXTRAS": "hf"}, capture_output=True, text=True, check=True
        ).stdout.split("\n")[:-1]
        assert found == ["install", "--no-cache-dir", *expected, "--constraint", "constraints.txt", ".[hf]"]


def test_three_companies_are_composed_apart() -> None:
    composed = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    services = composed["services"]
    assert set(services) == {"server", "alpha", "beta", "gamma"}
    targets = {rest.rpartition(" ")[2] for word, rest in instructions() if word == "FROM" and " AS " in rest}
    for name, service in services.items():
        build = service["build"]
        assert (DEPLOY / build["context"]).resolve() == ROOT
        assert (ROOT / build["dockerfile"]).is_file()
        assert build["target"] in targets
        assert (service["read_only"], service["cap_drop"], service["init"]) == (True, ["ALL"], True)
        assert set(build["args"]) <= {re.split("=", rest)[0] for word, rest in instructions() if word == "ARG"}
        assert service["volumes"][0] == f"{name}:/var/lib/koinon"
    apart = [set(services[name]["networks"]) for name in ("alpha", "beta", "gamma")]
    assert sum(map(len, apart)) == len(set.union(*apart)), "no two companies share a network"
    assert set.union(*apart) == set(services["server"]["networks"])
