"""Who may become what from where, and that each step is on record once or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from koinon.errors import FederationError
from koinon.privacy.ledger import verify
from koinon.server.membership import Registry, open_registry
from koinon.server.membership.home import Node
from koinon.server.membership.records import Applicant, State


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, make_home: Any) -> Iterator[Registry]:
    with open_registry(make_home(tmp_path_factory.mktemp("registry") / "home")) as opened:
        yield opened


@pytest.fixture
def name(registry: Registry) -> str:
    """A name that nobody has yet."""
    return f"partner{len(registry.invitations())}"


def node_key() -> bytes:
    key = ec.generate_private_key(ec.SECP384R1()).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def apply(registry: Registry, name: str, key: bytes | None = None) -> bytes:
    secret, _ = registry.invite(name, days=1)
    key = key or node_key()
    registry.apply(secret, Applicant(name, key, b"m" * 32, "0" * 64, "0" * 64, "0.1.0", 1))
    return key


STEPS = {
    "approve": Registry.approve,
    "reject": Registry.reject,
    "suspend": Registry.suspend,
    "resume": Registry.resume,
    "remove": Registry.remove,
    "leave": partial(Registry.leave, forget=False),
}
PATHS = {
    "applied": [],
    "approved": ["approve"],
    "rejected": ["reject"],
    "suspended": ["approve", "suspend"],
    "removed": ["approve", "remove"],
    "left": ["approve", "leave"],
}
ALLOWED = {
    "applied": {"approve": "approved", "reject": "rejected", "remove": "removed", "leave": "left"},
    "approved": {"suspend": "suspended", "remove": "removed", "leave": "left"},
    "suspended": {"resume": "approved", "remove": "removed", "leave": "left"},
    "rejected": {},
    "removed": {},
    "left": {},
}


@pytest.mark.parametrize("state", PATHS)
@pytest.mark.parametrize("step", STEPS)
def test_each_step_leads_where_it_may_and_nowhere_else(registry: Registry, name: str, state: str, step: str) -> None:
    apply(registry, name)
    for before in PATHS[state]:
        STEPS[before](registry, name)
    entries = len(registry.book.entries())
    if step in ALLOWED[state]:
        assert STEPS[step](registry, name).state == ALLOWED[state][step] == registry.member(name).state
        assert len(registry.book.entries()) == entries + 1
        assert registry.book.entries()[-1].subject == name
    else:
        with pytest.raises(FederationError) as caught:
            STEPS[step](registry, name)
        assert caught.value.code in ("K764", "K759")
        assert registry.member(name).state == state
        assert len(registry.book.entries()) == entries


@pytest.mark.parametrize("step", ["approve", "reject", "suspend", "resume", "remove"])
def test_nobody_of_that_name(registry: Registry, name: str, step: str) -> None:
    with pytest.raises(FederationError) as caught:
        STEPS[step](registry, name)
    assert caught.value.code == "K758"


@pytest.mark.parametrize("state", ["rejected", "removed", "left"])
def test_whoever_went_may_come_back_with_new_keys(registry: Registry, name: str, state: str) -> None:
    former = apply(registry, name)
    for step in PATHS[state]:
        STEPS[step](registry, name)
    with pytest.raises(FederationError) as caught:
        apply(registry, name, former)
    assert caught.value.code == "K751"
    apply(registry, name)
    assert registry.approve(name).state is State.APPROVED


@pytest.mark.parametrize("state", ["applied", "approved", "suspended"])
def test_a_member_is_not_invited_again(registry: Registry, name: str, state: str) -> None:
    apply(registry, name)
    for step in PATHS[state]:
        STEPS[step](registry, name)
    with pytest.raises(FederationError) as caught:
        registry.invite(name, days=1)
    assert caught.value.code == "K764"


@pytest.mark.parametrize("wrong", ["", "Alpha", "a b", "-a", "a" * 64, "../a", "a\n"])
def test_only_names_are_invited(registry: Registry, wrong: str) -> None:
    before = registry.invitations()
    with pytest.raises(FederationError) as caught:
        registry.invite(wrong, days=1)
    assert caught.value.code == "K764"
    assert registry.invitations() == before


def test_an_application_that_fails_leaves_the_invitation_open(registry: Registry, name: str) -> None:
    taken = apply(registry, f"{name}-other")
    secret, _ = registry.invite(name, days=1)
    with pytest.raises(FederationError):
        registry.apply(secret, Applicant(name, taken, b"m" * 32, "0" * 64, "0" * 64, "0.1.0", 1))
    assert registry.invitation(secret).ended == ""
    registry.apply(secret, Applicant(name, node_key(), b"m" * 32, "0" * 64, "0" * 64, "0.1.0", 1))


def test_the_secret_is_nowhere_in_the_database(registry: Registry, name: str) -> None:
    secret, _ = registry.invite(name, days=1)
    database = Path(str(registry.store.engine.url.database))
    kept = b"".join(path.read_bytes() for path in database.parent.glob("state.db*"))
    assert registry.invitation(secret).secret_sha256.encode() in kept
    assert secret.encode() not in kept


def test_a_node_is_bound_to_the_key_it_was_registered_for(registry: Registry, name: str) -> None:
    first = apply(registry, name)
    registry.bind(name, Node(first, 2**64 - 1))
    assert registry.member(name).node_id == 2**64 - 1
    second = node_key()
    registry.rotate(name, second)
    assert registry.member(name).node_id is None
    registry.bind(name, Node(first, 5))  # too late: the key is no longer the member's
    assert registry.member(name).node_id is None


def test_the_whole_story_is_on_record_and_verifies(registry: Registry, name: str) -> None:
    apply(registry, name)
    for step in ("approve", "suspend", "resume"):
        STEPS[step](registry, name)
    registry.accept(name, "1" * 64)
    registry.rotate(name, node_key())
    registry.leave(name, forget=True)
    told = [str(entry.kind) for entry in registry.book.entries() if entry.subject == name]
    steps = ["invited", "applied", "approved", "suspended", "approved", "policy_accepted", "key_rotated", "left"]
    assert told == steps
    assert verify(registry.book.entries(), registry.book.signer.verifier).whole
