"""EASE, ItemKNN, iALS and BPR-MF agree with LensKit and implicit, which run in an environment of their own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_other_libraries_give_the_same(tmp_path):
    command = [sys.executable, "-m", "bench.against_libraries", "--environment", str(tmp_path / "environment")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"\| agrees \|", done.stdout)) == 5
