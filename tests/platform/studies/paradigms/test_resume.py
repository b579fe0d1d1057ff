"""Killed outright at any moment, a study goes on where it was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

ARMS = "popularity,itemknn,ease,ials,semantic-ease,sasrec"


def begin(out):
    arguments = ["study", "run", "paradigms", "--data", "ml-100k", "--out", str(out), "--arms", ARMS]
    arguments += ["--seeds", "0,1", "--budget", "2", "--json"]
    return subprocess.Popen(
        [sys.executable, "-m", "koinon.cli", *arguments],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True,
    )  # fmt: skip


def finished(out):
    """Times of the files of finished work; a fitted model is kept only until its arm's measures are done."""
    files = [path for path in (out / "work").rglob("*.json") if path.name != "job.json" and "model" not in path.parts]
    return {path: path.stat().st_mtime_ns for path in files}


@pytest.mark.slow
def test_a_study_killed_again_and_again_repeats_nothing_that_was_finished(tmp_path):
    out = tmp_path / "study"
    kills, kept = 0, {}
    for patience in (4, 9, 14):  # measures over before the next kill; with all 34 over there is nothing to kill
        with begin(out) as process:
            seen = 0
            assert process.stdout is not None
            for line in process.stdout:
                event = json.loads(line)
                seen += event["event"] == "measure" and event["state"] == "done"
                if seen >= patience:
                    break
            workers = psutil.Process(process.pid).children(recursive=True)
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        _, alive = psutil.wait_procs(workers, timeout=30)
        assert workers
        assert not alive, "a worker outlived whoever started it"
        now = finished(out)
        assert len(now) > len(kept)
        assert {path: now[path] for path in kept} == kept, "something finished was done again"
        kept = now
        time.sleep(0.1)
    with begin(out) as process:
        assert process.stdout is not None
        last = [json.loads(line) for line in process.stdout]
        assert process.wait() == 0
    now = finished(out)
    assert {path: now[path] for path in kept} == kept
    assert len(now) > len(kept)
    assert kills == 3
    results = last[-1]["results"]["data"]["ml-100k"]
    assert set(results["arms"]) == set(ARMS.split(","))
    assert results["arms"]["sasrec"]["seeds"] == [0, 1]
    assert not results["not_run"]
    assert not list(out.rglob(".part-*"))
