import os
import signal
import subprocess
import sys

import pytest

from koinon.config import atomic_path, sweep, write_atomically, write_new_private

KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from koinon.config import atomic_path

with atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_text("half of the new")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    target = tmp_path / "state.json"
    write_atomically(target, "old")
    with pytest.raises(UnicodeEncodeError), atomic_path(target) as temporary:
        temporary.write_text("half of the new \udc80", encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]
    assert target.read_text() == "old"


def test_what_a_killed_writer_leaves_is_swept_and_nothing_else(tmp_path):
    target = tmp_path / "deep" / "state.json"
    write_atomically(target, "old")
    write_atomically(tmp_path / ".lock", "")
    ended = subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, os.fspath(target)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert len(list(target.parent.iterdir())) == 2
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == [".lock", "deep", "state.json"]
    assert target.read_text() == "old"


def test_a_private_file_can_be_read_by_its_owner_alone_at_every_moment(tmp_path):
    target = tmp_path / "secret"
    target.write_text("old")
    target.chmod(0o644)
    with atomic_path(target, private=True) as temporary:
        temporary.write_text("new")
        assert temporary.stat().st_mode & 0o077 == 0
    assert target.stat().st_mode & 0o777 == 0o600
    write_atomically(target, "newer", private=True)
    assert target.stat().st_mode & 0o777 == 0o600


def test_a_new_private_file_does_not_replace_one_that_is_there(tmp_path):
    target = tmp_path / "keys" / "key"
    write_new_private(target, b"first")
    write_new_private(target, b"second")
    assert target.read_bytes() == b"first"
    assert target.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in target.parent.iterdir()] == ["key"]
