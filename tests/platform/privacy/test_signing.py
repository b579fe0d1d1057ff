"""The server's key: made once, kept to its owner, and bound to what it signs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import x25519

from koinon.errors import FederationError
from koinon.privacy.signing import Signer, Verifier


def test_a_key_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "state" / "server.key"
    signer = Signer.open(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert Signer.open(path).key == signer.key
    assert [file.name for file in path.parent.iterdir()] == ["server.key"]


def test_of_many_that_find_no_key_all_end_with_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: Signer.open(tmp_path / "server.key").key, range(16)))
    assert len(keys) == 1


def test_a_signature_holds_for_its_purpose_and_content_alone(tmp_path: Path) -> None:
    signer = Signer.open(tmp_path / "server.key")
    signature = signer.sign("release", b"content")
    verifier = Verifier(signer.key)
    assert verifier.valid("release", b"content", signature)
    assert not verifier.valid("ledger", b"content", signature)
    assert not verifier.valid("release", b"contenT", signature)
    assert not verifier.valid("release", b"content", signature[:-1])
    assert not Signer.open(tmp_path / "other.key").verifier.valid("release", b"content", signature)


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    Signer.open(tmp_path / "server.key")
    (tmp_path / "server.key").chmod(0o640)
    with pytest.raises(FederationError, match="K772"):
        Signer.open(tmp_path / "server.key")


def test_a_key_of_another_kind_or_none_is_refused(tmp_path: Path) -> None:
    other = x25519.X25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for content in (other, b"no key"):
        path = tmp_path / "server.key"
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(FederationError, match="K772"):
            Signer.open(path)


@pytest.mark.parametrize("text", ["", "AAAA", "A" * 43, "A" * 42 + "B=", "Ä" * 43 + "="])
def test_what_is_no_public_key_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "server.pub"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FederationError, match="K772"):
        Verifier.read(path)
