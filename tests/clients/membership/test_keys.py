"""Keys are made once, on this machine, for its owner's eyes alone."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from koinon.clients.keys import Keys
from koinon.errors import PrivacyError


def code(folder: Path) -> str:
    with pytest.raises(PrivacyError) as caught:
        Keys.make(folder)
    return caught.value.code


def test_they_are_readable_by_their_owner_alone(tmp_path: Path):
    keys = Keys.make(tmp_path)
    assert keys.folder.stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_mode & 0o777 for path in keys.folder.iterdir()} == {
        "node": 0o600,
        "member": 0o600,
    }


def test_the_node_key_is_what_flower_wants(tmp_path: Path):
    public = load_ssh_public_key(Keys.make(tmp_path).node_public)
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert isinstance(public.curve, ec.SECP384R1)


def test_there_is_never_a_second_pair(tmp_path: Path):
    found: list[tuple[bytes, bytes]] = []

    def read() -> None:
        keys = Keys.make(tmp_path)
        found.append((keys.node_public, keys.member_public))

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_a_new_node_key_is_taken_in_one_step(tmp_path: Path):
    keys = Keys.make(tmp_path)
    before, member = keys.node_public, keys.member_public
    following = keys.next_node_public()
    assert following != before
    assert Keys(tmp_path).next_node_public() == following, "asked again, after a kill, it is the same"
    assert Keys(tmp_path).node_public == before, "until it is taken the old one holds"
    keys.take_next()
    again = Keys(tmp_path)
    assert (again.node_public, again.member_public) == (following, member)
    again.take_next()
    assert again.node_public == following, "without a next one it stays"


@pytest.mark.parametrize("name", ["node", "member"])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, name: str):
    (Keys.make(tmp_path).folder / name).chmod(0o644)
    assert code(tmp_path) == "K640"


def test_so_is_one_in_a_folder_that_others_may_enter(tmp_path: Path):
    Keys.make(tmp_path).folder.chmod(0o755)
    assert code(tmp_path) == "K640"


@pytest.mark.parametrize("name", ["node", "member"])
def test_a_damaged_key_is_named(tmp_path: Path, name: str):
    folder = Keys.make(tmp_path).folder
    (folder / name).write_bytes(b"-----BEGIN")
    assert code(tmp_path) == "K641"
    (folder / name).write_bytes((folder / ("member" if name == "node" else "node")).read_bytes())
    assert code(tmp_path) == "K641"


@pytest.mark.parametrize("name", ["node", "member"])
def test_a_lost_key_is_not_made_anew_unasked(tmp_path: Path, name: str):
    (Keys.make(tmp_path).folder / name).unlink()
    with pytest.raises(PrivacyError, match="K641"):
        Keys(tmp_path)
    assert not (tmp_path / "federation" / "keys" / name).exists()
