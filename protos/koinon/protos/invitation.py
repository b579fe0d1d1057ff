"""An invitation: one line that an operator hands to a partner, with all that is needed to find and trust the server.

``koinon<version>.<content>.<checksum>``: the content is JSON, base64url without padding; the checksum is the first
16 hexadecimal digits of the SHA-256 of everything before it. It finds accidents (a paste that was cut), not forgers:
what makes an invitation genuine is its secret, which the server knows by its hash.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import secrets
from datetime import UTC, datetime
from typing import Literal, Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import AwareDatetime, Field, ValidationError, field_validator

from koinon.config import Config
from koinon.errors import FederationError

__all__ = ["INVITATION_VERSION", "Invitation", "new_secret", "secret_sha256"]

INVITATION_VERSION = 1
_SHAPE = re.compile(r"koinon(\d{1,4})\.([A-Za-z0-9_-]+)\.([0-9a-f]{16})")
_BEGINS = re.compile(r"koinon\d{1,4}\.")
_LONGEST = 65536
_NAME = r"^[a-z0-9]+(-[a-z0-9]+)*$"


class Invitation(Config):
    """What an invitation says. It is worth one membership until it expires: hand it over as you would a password."""

    version: Literal[1] = INVITATION_VERSION
    federation: str = Field(pattern=_NAME, max_length=63)
    """The federation's name."""
    address: str = Field(pattern=r"^([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$", max_length=300)
    """``host:port`` of the joining service (an IPv6 host in brackets)."""
    ca_certificate: str = Field(max_length=16384)
    """PEM of the certificate authority that signs the server's certificates; the only one the partner trusts."""
    partner: str = Field(pattern=_NAME, max_length=63)
    """The name under which the partner is invited."""
    expires: AwareDatetime
    """UTC."""
    secret: str = Field(pattern=r"^[A-Za-z0-9_-]{43}$")
    """256 random bits, base64url (see :func:`new_secret`)."""

    @field_validator("ca_certificate")
    @classmethod
    def _a_certificate(cls, pem: str) -> str:
        """Exactly one certificate, in one spelling."""
        return x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.PEM).decode()

    @field_validator("expires")
    @classmethod
    def _utc(cls, expires: datetime) -> datetime:
        return expires.astimezone(UTC).replace(microsecond=0)

    @property
    def secret_sha256(self) -> str:
        """By what a server knows the invitation: see :func:`secret_sha256`."""
        return secret_sha256(self.secret)

    @property
    def host(self) -> str:
        """Host name or address of the joining service, without brackets."""
        return self.address.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """TCP port of the joining service."""
        return int(self.address.rpartition(":")[2])

    def encode(self) -> str:
        """Write it as one line; :meth:`decode` reads it back."""
        content = self.model_dump(mode="json", exclude={"version", "ca_certificate"})
        authority = x509.load_pem_x509_certificate(self.ca_certificate.encode())
        content["ca"] = _base64(authority.public_bytes(Encoding.DER))
        body = f"koinon{self.version}.{_base64(json.dumps(content, separators=(',', ':')).encode())}"
        return f"{body}.{_checksum(body)}"

    @classmethod
    def decode(cls, line: str) -> Self:
        """Read an invitation; white space anywhere in it (a mail's line breaks) is ignored. Its expiry is not checked.

        Raises
        ------
        FederationError
            K732 it was cut, altered or is no invitation, K733 it is of another version.
        """
        line = "".join(line.split())
        if not _BEGINS.match(line) or len(line) > _LONGEST:
            raise FederationError(
                "K732", "This is not an invitation.", "It begins with `koinon1.`; paste it whole, or give its file."
            )
        found = _SHAPE.fullmatch(line)
        if found is None or _checksum(line.rpartition(".")[0]) != found[3]:
            raise FederationError(
                "K732", "The invitation was cut or altered on its way.", "Copy the whole line, or ask for it again."
            )
        if int(found[1]) != INVITATION_VERSION:
            raise FederationError(
                "K733",
                f"The invitation is of version {int(found[1])}, this Koinon reads version {INVITATION_VERSION}.",
                "Install the version of Koinon that the federation runs.",
            )
        try:
            content = json.loads(_bytes(found[2]))
            authority = x509.load_der_x509_certificate(_bytes(content.pop("ca")))
            return cls.model_validate(content | {"ca_certificate": authority.public_bytes(Encoding.PEM).decode()})
        except (ValidationError, ValueError, KeyError, TypeError, AttributeError, binascii.Error) as error:
            raise FederationError(
                "K732", "The invitation holds something else than it should.", "Ask the operator for a new one."
            ) from error


def new_secret() -> str:
    """Return 256 random bits as 43 base64url characters."""
    return secrets.token_urlsafe(32)


def secret_sha256(secret: str) -> str:
    """Return the SHA-256 (hex) of an invitation's secret: what a server keeps instead of it."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _checksum(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:16]


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
