"""The benchmark of a round's cost runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def measured(*what: str) -> list[str]:
    """Rows of the table."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "round_cost.py"), *what, "--quick"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if line.startswith("|")][2:]


def test_bytes_are_counted_and_adapters_are_far_below_the_encoders_weights() -> None:
    rows = measured("bytes")
    assert any("federated_popularity" in row for row in rows)
    _, what, figure, beside = (cell.strip() for cell in rows[-1].strip("|").join("||").split("|")[:4])
    assert (what, figure) == ("the encoder's weights, for comparison", "275.7 MB")
    assert int(beside.split(" x ")[0]) >= 20


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_rounds_are_timed_and_the_servers_memory_is_watched() -> None:
    rows = measured("latency", "secure", "memory")
    said = "\n".join(rows)
    assert "simulation, 4 partners, plain" in said
    assert "secure against plain" in said
    assert "4 partners, 1,000 values" in rows[-1]
    assert "flwr" not in said
    assert "SuperLink 0.0 kB" not in rows[-1]
