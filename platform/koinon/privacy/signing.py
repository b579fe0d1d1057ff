"""The key that a server signs its ledger and its releases with: Ed25519, of the ``cryptography`` library.

The private key lies in one file that only its owner can read. The public key is 32 bytes, told and pinned as base64.
What is signed begins with a word that says what it is, so that a signature under a ledger's entry can never be shown as
one under a release.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from koinon.config import write_new_private
from koinon.errors import FederationError

__all__ = ["Signer", "Verifier"]


class Verifier:
    """A public key.

    Parameters
    ----------
    key
        32 bytes in base64.

    Raises
    ------
    FederationError
        K772 this is no public key.
    """

    def __init__(self, key: str) -> None:
        try:
            raw = base64.b64decode(key, validate=True)
            if base64.b64encode(raw).decode() != key:
                raise ValueError("not in its one form")
            self._key = Ed25519PublicKey.from_public_bytes(raw)
        except (binascii.Error, ValueError) as error:
            raise FederationError(
                "K772", f"This is no public key: {error}.", "It is 32 bytes in base64, as the federation's offer tells."
            ) from error
        self.key = key

    @classmethod
    def read(cls, path: Path) -> Verifier:
        """Read a public key from a file that holds its base64.

        Raises
        ------
        FederationError
            K772 it cannot be read.
        """
        try:
            return cls(path.read_text(encoding="ascii").strip())
        except (OSError, UnicodeDecodeError) as error:
            raise FederationError("K772", f"Cannot read the public key {path}: {error}.", "Check the path.") from error

    def valid(self, purpose: str, content: bytes, signature: bytes) -> bool:
        """Whether the key's owner has signed ``content`` for ``purpose``."""
        try:
            self._key.verify(signature, _message(purpose, content))
        except InvalidSignature:
            return False
        return True


class Signer:
    """A private key and what is done with it."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        public = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self.verifier = Verifier(base64.b64encode(public).decode())

    @property
    def key(self) -> str:
        """The public key, base64."""
        return self.verifier.key

    @classmethod
    def open(cls, path: Path) -> Signer:
        """Read the private key in a file; where there is none, make a new one (mode 600).

        Of several processes that find none, all end with the key of the first.

        Raises
        ------
        FederationError
            K772 the file is unreadable, no Ed25519 key, or readable by others.
        """
        try:
            if not path.exists():
                _create(path)
            private = path.stat().st_mode & 0o077 == 0
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except (OSError, ValueError, TypeError) as error:
            raise FederationError(
                "K772", f"The signing key {path} cannot be read: {error}.", "Restore it from a backup of the server."
            ) from error
        if not isinstance(key, Ed25519PrivateKey) or not private:
            raise FederationError(
                "K772",
                f"The signing key {path} must be an Ed25519 key that its owner alone can read.",
                "`chmod 600` it; whoever else could read it may have signed with it.",
            )
        return cls(key)

    def sign(self, purpose: str, content: bytes) -> bytes:
        """Return the signature, 64 bytes, under ``content`` for ``purpose``."""
        return self._key.sign(_message(purpose, content))


def _message(purpose: str, content: bytes) -> bytes:
    return b"koinon " + purpose.encode("ascii") + b"\0" + content


def _create(path: Path) -> None:
    content = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_new_private(path, content)
