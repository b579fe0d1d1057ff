"""A member's two keys: made on the partner's own machine, readable by their owner alone, never sent.

::

    <folder>/federation/keys/node     NIST P-384, OpenSSH: by it the SuperLink knows the partner's node
    <folder>/federation/keys/member   Ed25519, PEM: signs what the partner asks of the joining service
    <folder>/federation/keys/node.next    while the node key is being changed
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from koinon.config import write_new_private
from koinon.errors import PrivacyError, ResourceError

__all__ = ["Keys"]

NodeKey = ec.EllipticCurvePrivateKey


class Keys:
    """The keys in a partner's folder, read.

    Parameters
    ----------
    folder
        The partner's folder.

    Raises
    ------
    PrivacyError
        K640 somebody else may read them, K641 one of them is missing or no such key.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "federation" / "keys"
        self.node_file = self.folder / "node"
        self.node = _read_node_key(self.node_file)
        self.member = _read_member_key(self.folder / "member")

    @classmethod
    def make(cls, folder: Path) -> Keys:
        """Make what is missing, and read them.

        Of several processes that find none, all end with the keys of the first: there is never a second pair.

        Raises
        ------
        PrivacyError
            K640, K641 what is there cannot be used.
        ResourceError
            K801 they cannot be written.
        """
        target = folder / "federation" / "keys"
        try:
            target.mkdir(parents=True, mode=0o700, exist_ok=True)
            _make(target / "node", _new_node_key)
            _make(target / "member", _new_member_key)
        except OSError as error:
            raise ResourceError(
                "K801", f"Cannot write {target}: {error.strerror or error}.", "Free disk space or mend its rights."
            ) from error
        return cls(folder)

    @property
    def node_public(self) -> bytes:
        """The node's public key, one OpenSSH line without a comment."""
        return _public(self.node)

    @property
    def node_sha256(self) -> str:
        """By what the federation's operator names the node's key: SHA-256 (hex) of its public half in PEM."""
        said = self.node.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(said).hexdigest()

    @property
    def member_public(self) -> bytes:
        """The member's public key, 32 bytes."""
        return self.member.public_key().public_bytes_raw()

    def next_node_public(self) -> bytes:
        """Make the node's next key and return its public half; once made it stays the next until it is taken."""
        following = self.folder / "node.next"
        _make(following, _new_node_key)
        return _public(_read_node_key(following))

    def take_next(self) -> None:
        """From now on the node's key is the next one, in one step; without a next one it stays what it is."""
        following = self.folder / "node.next"
        if following.exists():
            following.replace(self.node_file)
        self.node = _read_node_key(self.node_file)


def _public(key: NodeKey) -> bytes:
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)


def _new_node_key() -> bytes:
    key = ec.generate_private_key(ec.SECP384R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())


def _new_member_key() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _make(path: Path, new: Callable[[], bytes]) -> None:
    """Write a key that is not there yet, whole or not at all, mode 600."""
    if not path.exists():
        write_new_private(path, new())


def _read(path: Path) -> bytes:
    if path.stat().st_mode & 0o077 or path.parent.stat().st_mode & 0o077:
        raise PrivacyError(
            "K640",
            f"Others may read the key {path}.",
            f"`chmod 700 {path.parent}; chmod 600 {path}`, then `koinon partner rotate`: it may have been copied.",
        )
    return path.read_bytes()


def _read_node_key(path: Path) -> NodeKey:
    try:
        key = load_ssh_private_key(_read(path), None)
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise _damaged(path) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP384R1):
        raise _damaged(path)
    return key


def _read_member_key(path: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(_read(path), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _damaged(path) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _damaged(path)
    return key


def _damaged(path: Path) -> PrivacyError:
    return PrivacyError("K641", f"{path} is not the key it should be.", "Restore it, or ask for a new invitation.")
