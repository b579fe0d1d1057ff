"""Other libraries, in an environment of their own, give the same figures of fairness."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_other_libraries_give_the_same(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.audit_oracles", "--environment", str(tmp_path / "environment")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("  agrees") == 15
