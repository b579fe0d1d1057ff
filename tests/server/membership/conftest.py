"""A federation with its joining service on loopback, under TLS, and a company that speaks to it by hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from koinon.privacy.ledger.kinds import Kind
from koinon.protos import joining_pb2 as joining
from koinon.protos.installed import code_sha256
from koinon.protos.joining_pb2_grpc import JoiningStub
from koinon.protos.running import free_port
from koinon.protos.signing import sign
from koinon.server import hosting
from koinon.server.federation import Terms
from koinon.server.membership import FederationHome, HostConfig, Registry, open_registry
from koinon.server.membership.limits import Limits

TERMS: dict[str, object] = {
    "name": "shops",
    "learners": [{"name": "federated_popularity"}],
    "encoder": "none",
    "minimum_participants": 2,
}
CODE = code_sha256()
"""Hashed once: the tests are about who joins, and the files may be under work meanwhile."""


@dataclass
class Company:
    """A company's keys, and the requests it makes with them; what a test wants wrong is changed on the way."""

    name: str
    federation: str
    policy_sha256: str
    node: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP384R1()))
    member: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    last_ms: int = 0

    def node_key(self) -> bytes:
        return self.node.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)

    def now_ms(self) -> int:
        self.last_ms = max(int(time.time() * 1000), self.last_ms + 1)
        return self.last_ms

    def application(self, secret: str, **changes: Any) -> joining.Application:
        described = {
            "invitation": secret,
            "partner": self.name,
            "node_key": self.node_key(),
            "member_key": self.member.public_key().public_bytes_raw(),
            "policy_sha256": self.policy_sha256,
            "code_sha256": CODE,
            "koinon_version": version("koinon"),
            "federation": self.federation,
            "time_ms": self.now_ms(),
        }
        return self.signed(joining.Application(**(described | changes)))

    def ask(self, **changes: Any) -> joining.StandingRequest:
        return self.signed(joining.StandingRequest(**(self._who() | changes)))

    def describe(self, **changes: Any) -> joining.DescribeRequest:
        return self.signed(joining.DescribeRequest(**(self._who() | changes)))

    def leave(self, **changes: Any) -> joining.LeaveRequest:
        return self.signed(joining.LeaveRequest(**(self._who() | changes)))

    def rotate(self, **changes: Any) -> joining.RotateRequest:
        fresh = ec.generate_private_key(ec.SECP384R1()).public_key()
        described = self._who() | {"node_key": fresh.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)}
        return self.signed(joining.RotateRequest(**(described | changes)))

    def signed(self, message: Any) -> Any:
        sign(message, self.member)
        return message

    def _who(self) -> dict[str, Any]:
        return {"partner": self.name, "federation": self.federation, "time_ms": self.now_ms()}


class Reached:
    """The joining service as the other side sees it.

    ``raw`` sends bytes as they are; ``Describe`` and the rest are the stub's.
    """

    def __init__(self, port: int, ca: bytes) -> None:
        self.channel = grpc.secure_channel(f"127.0.0.1:{port}", grpc.ssl_channel_credentials(ca))
        self.stub = JoiningStub(self.channel)

    def raw(self, method: str, said: bytes) -> bytes:
        call = self.channel.unary_unary(f"/koinon.v1.Joining/{method}")
        return bytes(call(said, timeout=10))


@dataclass
class Served:
    """A federation, its registry, and its joining service reached over TLS."""

    home: FederationHome
    registry: Registry
    reached: Reached
    port: int

    def company(self, name: str = "alpha") -> Company:
        return Company(name, self.home.authority.signer().key, self.home.terms().policy_sha256())

    def invited(self, name: str = "alpha", *, days: float = 7) -> str:
        return self.registry.invite(name, days=days)[0]

    def member(self, name: str = "alpha", *, approved: bool = True) -> Company:
        company = self.company(name)
        said = self.reached.stub.Apply(company.application(self.invited(name)))
        assert said.code == "", said.message
        if approved:
            self.registry.approve(name)
        return company

    def record(self) -> list[tuple[str, str, str]]:
        """Kind, subject and code of the ledger's entries."""
        entries = self.registry.book.entries()
        return [(str(e.kind), e.subject, str(e.body.get("code", ""))) for e in entries]

    def refusals(self) -> list[tuple[str, str, str]]:
        entries = self.registry.book.entries(kind=Kind.REFUSAL)
        return [(str(e.body["action"]), e.subject, str(e.body["code"])) for e in entries]


def _home(folder: Path, **changes: object) -> FederationHome:
    terms = Terms.from_dict(TERMS | changes)
    port = free_port()
    return FederationHome.create(folder, terms, HostConfig(address="127.0.0.1", port=port, join_port=free_port()))


@pytest.fixture(scope="session")
def make_home() -> Callable[..., FederationHome]:
    return _home


@contextmanager
def _serving(home: FederationHome, **how: Any) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hosting, "code_sha256", lambda: CODE)
        with open_registry(home) as registry, hosting.serve_joining(home, registry, **how) as port:
            yield from _reached(home, registry, port)


def _reached(home: FederationHome, registry: Registry, port: int) -> Iterator[Served]:
    reached = Reached(port, home.authority.ca_file.read_bytes())
    try:
        yield Served(home, registry, reached, port)
    finally:
        reached.channel.close()


@pytest.fixture
def serving() -> Callable[..., Any]:
    return _serving


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """The service, without a limit that a test would run into."""
    with _serving(_home(tmp_path / "home"), limits=Limits(burst=1000)) as found:
        yield found
