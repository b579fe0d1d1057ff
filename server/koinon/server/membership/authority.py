"""A federation's keys: who vouches for its server, and who signs its record.

``authority/`` in the federation's folder, readable by its owner alone::

    ca.key  ca.crt          certificate authority; members trust it and nothing else
    server.key  server.crt  the server's, for the addresses under which it is reached
    ledger.key              Ed25519; signs releases and ledger, and names the federation

A server's certificate lasts a year and is renewed with :meth:`Authority.certify`; members notice nothing, since they
trust the authority. Only the authority's own key is beyond renewal: who has lost it, founds a new federation.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from koinon.config import write_atomically
from koinon.errors import FederationError, ResourceError
from koinon.privacy.signing import Signer

__all__ = ["Authority"]

AUTHORITY_DAYS = 3650
SERVER_DAYS = 365
RENEW_DAYS = 30
"""With fewer days left a server's certificate is near its end."""
_OWN = ("localhost", "127.0.0.1")
"""The host speaks to its SuperLink over loopback, under the same certificate."""


class Authority:
    """The keys of a federation, in their folder.

    Parameters
    ----------
    folder
        ``authority/`` of the federation's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def create(cls, folder: Path, federation: str, addresses: Sequence[str]) -> Authority:
        """Make all keys and certificates of a new federation.

        Parameters
        ----------
        folder
            Made here, readable by its owner alone; must not exist.
        federation
            The federation's name; stands in the certificates.
        addresses
            Host names and IP addresses under which members reach the server.

        Raises
        ------
        ResourceError
            K801 the folder cannot be written.
        """
        made = cls(folder)
        try:
            folder.mkdir(mode=0o700, parents=True)
        except OSError as error:
            raise ResourceError("K801", f"Cannot make {folder}: {error}.", "Choose another folder.") from error
        key = ec.generate_private_key(ec.SECP384R1())
        name = _name(f"{federation} authority")
        certificate = (
            _builder(name, name, key.public_key(), AUTHORITY_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA384())
        )
        _write_key(folder / "ca.key", key)
        write_atomically(folder / "ca.crt", certificate.public_bytes(serialization.Encoding.PEM))
        made.signer()
        made.certify(addresses)
        return made

    def certify(self, addresses: Sequence[str]) -> x509.Certificate:
        """Make a new key and certificate for the server; it holds from the server's next start.

        Raises
        ------
        FederationError
            K768 the authority's key or certificate is missing or damaged.
        """
        authority, signer = self.certificate(), self._ca_key()
        key = ec.generate_private_key(ec.SECP384R1())
        hosts = list(dict.fromkeys([*addresses, *_OWN]))
        certificate = (
            _builder(_name(addresses[0]), authority.subject, key.public_key(), SERVER_DAYS)
            .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
            .sign(signer, hashes.SHA384())
        )
        _write_key(self.folder / "server.key", key)
        write_atomically(self.folder / "server.crt", certificate.public_bytes(serialization.Encoding.PEM))
        return certificate

    @property
    def ca_file(self) -> Path:
        """PEM of the authority's certificate."""
        return self.folder / "ca.crt"

    @property
    def server_files(self) -> tuple[Path, Path]:
        """PEM files of the server's certificate and key."""
        return self.folder / "server.crt", self.folder / "server.key"

    def certificate(self) -> x509.Certificate:
        """The authority's own certificate.

        Raises
        ------
        FederationError
            K768 it is missing or damaged.
        """
        return _certificate(self.ca_file)

    def server_certificate(self) -> x509.Certificate:
        """The server's certificate.

        Raises
        ------
        FederationError
            K768 it is missing or damaged.
        """
        return _certificate(self.folder / "server.crt")

    def days_left(self) -> int:
        """Whole days until the server's certificate ends; negative when it has."""
        return (self.server_certificate().not_valid_after_utc - datetime.now(UTC)).days

    def stands_for(self, host: str) -> bool:
        """Whether the server's certificate names a host."""
        names = self.server_certificate().extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return _general_name(host) in names

    def signer(self) -> Signer:
        """What signs releases and ledger; its public key names the federation for ever.

        Raises
        ------
        FederationError
            K772 the key cannot be read, or others can read it.
        """
        return Signer.open(self.folder / "ledger.key")

    def _ca_key(self) -> ec.EllipticCurvePrivateKey:
        key = _key(self.folder / "ca.key")
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise _damaged(self.folder / "ca.key")
        return key


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=10))  # members' clocks may be behind
        .not_valid_after(now + timedelta(days=days))
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write_key(target: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """Write a private key that nobody but its owner could read at any moment."""
    content = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_atomically(target, content, private=True)


def _key(source: Path) -> object:
    try:
        return serialization.load_pem_private_key(source.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise _damaged(source) from error


def _certificate(source: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(source.read_bytes())
    except (OSError, ValueError) as error:
        raise _damaged(source) from error


def _damaged(source: Path) -> FederationError:
    return FederationError("K768", f"{source} is missing or damaged.", "Restore it from a backup.")
