"""A federation's keys and certificates, as OpenSSL and the file system see them."""

from __future__ import annotations

import socket
import ssl
import stat
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from koinon.errors import FederationError
from koinon.server.membership import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "authority", "shops", ["fed.example.org", "192.0.2.7", "2001:db8::7"])


def handshake(authority: Authority, trusted: Path, name: str) -> None:
    """Connect to a server with the authority's certificate under a name, as a member does."""
    certificate, key = authority.server_files
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate, key)
    mine, theirs = socket.socketpair()

    def serve() -> None:
        try:
            serving.wrap_socket(theirs, server_side=True).close()
        except OSError:
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with ssl.create_default_context(cafile=str(trusted)).wrap_socket(mine, server_hostname=name):
            pass
    finally:
        mine.close()
        thread.join()


@pytest.mark.parametrize("name", ["fed.example.org", "192.0.2.7", "2001:db8::7", "localhost", "127.0.0.1"])
def test_the_server_is_believed_under_its_addresses(authority: Authority, name: str) -> None:
    handshake(authority, authority.ca_file, name)


def test_it_is_not_believed_under_another_name(authority: Authority) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(authority, authority.ca_file, "other.example.org")


def test_another_federations_members_do_not_believe_it(authority: Authority, tmp_path: Path) -> None:
    other = Authority.create(tmp_path / "other", "shops", ["fed.example.org"])
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(authority, other.ca_file, "fed.example.org")


def test_private_keys_are_their_owners_alone(authority: Authority) -> None:
    assert stat.S_IMODE(authority.folder.stat().st_mode) == 0o700
    keys = sorted(path.name for path in authority.folder.glob("*.key"))
    assert keys == ["ca.key", "ledger.key", "server.key"]
    assert {stat.S_IMODE((authority.folder / name).stat().st_mode) for name in keys} == {0o600}


def test_a_renewed_certificate_stands_for_the_new_address_under_the_same_authority(authority: Authority) -> None:
    before = authority.server_certificate()
    assert not authority.stands_for("moved.example.org")
    authority.certify(["moved.example.org"])
    assert authority.stands_for("moved.example.org")
    assert authority.server_certificate().serial_number != before.serial_number
    assert 363 <= authority.days_left() <= 365
    handshake(authority, authority.ca_file, "moved.example.org")


def test_the_authority_can_sign_servers_and_nothing_below_them(authority: Authority) -> None:
    certificate = authority.certificate()
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP384R1)
    assert not authority.server_certificate().extensions.get_extension_for_class(x509.BasicConstraints).value.ca


@pytest.mark.parametrize("name", ["ca.key", "ca.crt"])
def test_a_damaged_authority_is_named(authority: Authority, name: str) -> None:
    (authority.folder / name).write_text("x")
    with pytest.raises(FederationError, match=name) as caught:
        authority.certify(["fed.example.org"])
    assert caught.value.code == "K768"
