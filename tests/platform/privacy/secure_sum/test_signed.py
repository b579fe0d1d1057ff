import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from koinon.errors import FederationError, PrivacyError
from koinon.privacy.secure_sum import Partner, Rules, Server, Session, signed_by_member, verified_by

SESSION, RULES = Session("run", 1, "ab" * 32), Rules()
NAMES = ("alpha", "beta", "gamma")


def hashed(key):
    return hashlib.sha256(key.public_key().public_bytes_raw()).hexdigest()


@pytest.fixture
def keys():
    return {name: Ed25519PrivateKey.generate() for name in NAMES}


@pytest.fixture
def members(keys):
    return {name: hashed(key) for name, key in keys.items()}


def begin(name, key):
    return Partner.begin(SESSION, RULES, name, signed_by_member(key))


def test_members_believe_each_other(keys, members):
    server, partners = Server(SESSION, RULES, verified_by(members)), {}
    for name, key in keys.items():
        partners[name], said = begin(name, key)
        server.take_keys(name, said)
    for name, cohort in server.cohorts().items():
        server.take_shares(name, partners[name].share(cohort, verified_by(members)))
    assert set(server.deliveries(3)) == set(NAMES)


@pytest.mark.parametrize("how", ["a key of its own", "another member's key", "no key"])
def test_a_server_cannot_play_a_partner(keys, members, how):
    played = {"a key of its own": Ed25519PrivateKey.generate(), "another member's key": keys["beta"]}.get(how)
    server, partners = Server(SESSION, RULES), {}
    for name, key in keys.items():
        partners[name], said = begin(name, key)
        if name == "gamma":
            _, said = begin(name, played) if played else Partner.begin(SESSION, RULES, name)
        server.take_keys(name, said)
    with pytest.raises(PrivacyError, match="K629"):
        partners["alpha"].share(server.cohorts()["alpha"], verified_by(members))


def test_a_server_takes_no_stranger(keys, members):
    server = Server(SESSION, RULES, verified_by(members))
    _, said = begin("gamma", Ed25519PrivateKey.generate())
    with pytest.raises(FederationError, match="K743"):
        server.take_keys("gamma", said)


@pytest.mark.parametrize("cut", [0, 31, 32, 95])
def test_a_signature_that_is_cut_off_is_none(keys, members, cut):
    said = b"what is signed"
    signature = signed_by_member(keys["alpha"])(said)
    assert len(signature) == 96
    verify = verified_by(members)
    assert verify("alpha", said, signature)
    assert not verify("alpha", said, signature[:cut])
    assert not verify("alpha", said + b"!", signature)
    assert not verify("delta", said, signature)
