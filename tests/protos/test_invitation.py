"""An invitation is read back as it was written; one that was cut, altered or is of another version is named as such."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from koinon.errors import FederationError
from koinon.protos import joining_pb2 as joining
from koinon.protos.invitation import Invitation, new_secret, secret_sha256
from koinon.protos.signing import sign, signed_by


def authority() -> str:
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "books")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    return made.sign(key, hashes.SHA384()).public_bytes(Encoding.PEM).decode()


INVITATION = Invitation(
    federation="books",
    address="federation.example.org:8443",
    ca_certificate=authority(),
    partner="buchladen",
    expires=datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC),
    secret=new_secret(),
)


def code(line: str) -> str:
    with pytest.raises(FederationError) as caught:
        Invitation.decode(line)
    return caught.value.code


def test_it_is_one_line_and_read_back_as_written():
    line = INVITATION.encode()
    assert re.fullmatch(r"[A-Za-z0-9_.-]+", line)
    assert Invitation.decode(line) == INVITATION
    assert (INVITATION.host, INVITATION.port) == ("federation.example.org", 8443)


def test_a_mails_line_breaks_do_no_harm():
    line = INVITATION.encode()
    wrapped = "\r\n  ".join(line[at : at + 72] for at in range(0, len(line), 72))
    assert Invitation.decode(f" {wrapped}\n") == INVITATION


@given(st.integers(8, len(INVITATION.encode()) - 1))
def test_a_cut_one_is_named_as_cut(length: int):
    with pytest.raises(FederationError, match="cut or altered") as caught:
        Invitation.decode(INVITATION.encode()[:length])
    assert caught.value.code == "K732"


@given(st.integers(8, len(INVITATION.encode()) - 1), st.sampled_from("Az09-_"))
def test_an_altered_one_is_refused(at: int, other: str):
    line = INVITATION.encode()
    if line[at] != other:
        assert code(line[:at] + other + line[at + 1 :]) == "K732"


@pytest.mark.parametrize("line", ["", "koinon", "hello", "https://example.org/invite", "koinon1." + "A" * 70_000])
def test_something_else_is_no_invitation(line: str):
    assert code(line) == "K732"


@pytest.mark.parametrize("version", ["0", "2", "17"])
def test_another_version_is_named(version: str):
    import hashlib

    body = INVITATION.encode().rpartition(".")[0].replace("koinon1", f"koinon{version}")
    assert code(f"{body}.{hashlib.sha256(body.encode()).hexdigest()[:16]}") == "K733"


def test_secrets_are_256_bits_and_known_by_their_hash():
    assert len({new_secret() for _ in range(100)}) == 100
    assert INVITATION.secret_sha256 == secret_sha256(INVITATION.secret) != INVITATION.secret


def test_a_signature_holds_for_one_content_of_one_kind_of_message_by_one_key():
    key, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw()
    asked = joining.StandingRequest(partner="buchladen", time_ms=5)
    assert not signed_by(asked, public)
    sign(asked, key)
    assert signed_by(joining.StandingRequest.FromString(asked.SerializeToString()), public)
    assert not signed_by(asked, other.public_key().public_bytes_raw())
    assert not signed_by(asked, b"")
    # the same bytes under another name
    assert not signed_by(joining.LeaveRequest(partner="buchladen", time_ms=5, signature=asked.signature), public)
    asked.time_ms = 6
    assert not signed_by(asked, public)
