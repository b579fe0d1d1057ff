"""What becomes of a federation when things go wrong: real processes, really killed."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from koinon.server import read_release

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

Make = Callable[..., Any]


@pytest.fixture
def shops(make_shop: Make) -> list[Path]:
    return [make_shop(name, seed=seed, first=10 * seed) for seed, name in enumerate(("alpha", "beta", "gamma"))]


def of_long_breath(federation: Make, shops: list[Path], rounds: int = 40, **changes: object) -> Any:
    settings = {"rounds": rounds, "memory": 0.5}
    return federation(shops, learners=[{"name": "federated_popularity", "settings": settings}], **changes)


def half_written(out: Path) -> list[Path]:
    return [path for path in out.rglob(".*") if path.name != ".lock"]


def test_ctrl_c_leaves_no_process_and_no_half_written_file(
    shops: list[Path], federation: Make, command: Make, carriers: Make
) -> None:
    running = command(of_long_breath(federation, shops))
    running.wait_for("round", 2)
    running.process.send_signal(signal.SIGINT)
    status, said = running.ended()
    assert (status, "interrupted" in said) == (130, True)
    assert carriers(running.token) == []
    assert half_written(running.out) == []
    assert not any(half_written(shop / "federation") for shop in shops)


def test_a_run_killed_outright_goes_on_and_ends_in_the_same_release(
    shops: list[Path], federation: Make, command: Make, carriers: Make, tmp_path: Path
) -> None:
    config = of_long_breath(federation, shops, rounds=60)
    whole = command(config, out=tmp_path / "whole")
    assert whole.ended()[0] == 0
    killed = command(config)
    killed.wait_for("round", 3)
    for process in [psutil.Process(killed.process.pid), *carriers(killed.token)]:
        process.kill()
    assert killed.ended()[0] == -signal.SIGKILL
    again = command(config)
    assert again.ended()[0] == 0
    again.wait_for("finished")
    assert again.seen[0]["event"] == "resumed"
    assert 1 < next(e["round"] for e in again.seen if e["event"] == "round") <= 60
    expected, found = (read_release(out / "releases" / "0001") for out in (whole.out, again.out))
    assert {n: a.tobytes() for n, a in expected.arrays.items()} == {n: a.tobytes() for n, a in found.arrays.items()}


def test_a_killed_launcher_is_cleaned_up_after_by_the_next_start(
    shops: list[Path], federation: Make, command: Make, carriers: Make
) -> None:
    config = of_long_breath(federation, shops, rounds=30)
    killed = command(config)
    killed.wait_for("round", 1)
    killed.process.kill()
    assert carriers(killed.token), "the orphans are still there"
    again = command(config)
    again.wait_for("resumed")
    assert carriers(killed.token) == []
    assert again.ended()[0] == 0


def test_processes_give_the_simulations_release_and_a_killed_partner_is_named(
    shops: list[Path], federation: Make, command: Make, carriers: Make, tmp_path: Path
) -> None:
    config = of_long_breath(federation, shops, rounds=2)
    simulated = command(config, out=tmp_path / "simulated")
    assert simulated.ended()[0] == 0
    real = command(config, "--processes", out=tmp_path / "real")
    assert real.ended()[0] == 0
    first, second = (read_release(out / "releases" / "0001") for out in (simulated.out, real.out))
    assert {n: a.tobytes() for n, a in first.arrays.items()} == {n: a.tobytes() for n, a in second.arrays.items()}
    assert carriers(real.token) == []

    config = of_long_breath(federation, shops, rounds=3, deadlines={"contribute": 20})
    running = command(config, "--processes")
    running.wait_for("round", 1)
    (node,) = [p for p in carriers(running.token) if "beta.toml" in " ".join(p.cmdline())]
    for process in [*node.children(recursive=True), node]:
        process.kill()
    status, said = running.ended()
    assert (status, said) == (0, "")
    running.wait_for("finished")
    rounds = [e for e in running.seen if e["event"] == "round"]
    assert rounds[0]["left_out"] == {}
    assert rounds[1]["left_out"]["beta"] in {"K701", "K702"}
    assert rounds[1]["participants"] == ["alpha", "gamma"]
    assert {e["partner"] for e in running.seen if e["event"] == "adopted"} == {"alpha", "gamma"}
    assert carriers(running.token) == []


def test_a_full_disk_gives_one_clear_error_and_the_next_start_resumes(
    shops: list[Path], federation: Make, command: Make, carriers: Make, small_disk: Path
) -> None:
    config = of_long_breath(federation, shops, rounds=40)
    running = command(config, out=small_disk / "out")
    running.wait_for("round", 2)
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"0" * 4096)
    status, said = running.ended()
    assert (status, "K801" in said) == (9, True), said
    assert carriers(running.token) == []
    assert half_written(running.out) == []
    filler.unlink()
    again = command(config, out=small_disk / "out")
    again.wait_for("resumed")
    assert again.ended()[0] == 0
