"""The federation's side for tests of the partner's: the real registry and joining service, over real TLS."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc
import polars as pl
import pytest

from koinon.data import PartnerConfig, Tables, Vault
from koinon.data.tables import EVENT_SCHEMA, ITEM_SCHEMA
from koinon.protos import joining_pb2 as joining
from koinon.protos.installed import code_sha256
from koinon.protos.invitation import Invitation
from koinon.protos.thin_app import app_sha256
from koinon.server.federation import Terms
from koinon.server.membership.authority import Authority
from koinon.server.membership.limits import Limits
from koinon.server.membership.registry import Registry
from koinon.server.membership.service import JoiningService
from koinon.server.state import LedgerBook, open_store

TERMS = Terms.from_dict(
    {
        "name": "books",
        "learners": [{"name": "federated_popularity", "settings": {"rounds": 2}}],
        "encoder": "none",
        "minimum_participants": 3,
    }
)


def write_shop(root: Path) -> Path:
    """Write a partner's folder with a vault."""
    items = pl.DataFrame(
        {
            "item_id": ["a", "b"], "title": ["Momo", "Krabat"], "creator": ["Michael Ende", "Otfried Preußler"],
            "description": [None] * 2, "language": ["de"] * 2, "categories": [[]] * 2, "price": [None] * 2,
            "text": ["Momo. Michael Ende", "Krabat. Otfried Preußler"],
        },
        schema=ITEM_SCHEMA,
    )  # fmt: skip
    events = pl.DataFrame([("anna", "a", None, "rating", 1.0)], schema=EVENT_SCHEMA, orient="row")
    people = pl.DataFrame({"user_id": ["anna"]}, schema={"user_id": pl.String()})
    config = PartnerConfig(name="buchladen", language="de", catalogue="public")
    Vault.create(root / "buchladen", config, Tables(items, events, people))
    (root / "buchladen").chmod(0o700)
    return root / "buchladen"


class _Recorder(grpc.ServerInterceptor):
    """Keeps the bytes of every request, as they came off the wire."""

    def __init__(self, received: list[bytes]) -> None:
        self.received = received

    def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        inner = continuation(details)

        def record(raw: bytes, context: grpc.ServicerContext) -> bytes:
            self.received.append(raw)
            return inner.unary_unary(raw, context)

        return grpc.unary_unary_rpc_method_handler(record)


class Operator:
    """A federation's operator with a running joining service; ``offer`` may be changed while it runs."""

    def __init__(self, folder: Path, terms: Terms = TERMS) -> None:
        self.authority = Authority.create(folder / "authority", terms.name, ["127.0.0.1"])
        self.store = open_store(folder / "state.db", create=True)
        book = LedgerBook(self.store, self.authority.signer())
        book.begin(terms.name, terms.policy_sha256())
        self.registry = Registry(book)
        self.received: list[bytes] = []
        self.offer = joining.Offer(
            koinon_version=version("koinon"),
            flower_version=version("flwr"),
            code_sha256=code_sha256(),
            app_sha256=app_sha256(),
            ledger_key=self.authority.signer().key,
            encoder_sha256=terms.encoder_sha256,
        )
        self.set_policy(terms)
        self.skew_ms = 0
        service = JoiningService(self.registry, lambda: self.offer, limits=Limits(burst=10_000))
        self.service = service
        self.server = grpc.server(ThreadPoolExecutor(2), interceptors=[_Recorder(self.received)])
        self.server.add_generic_rpc_handlers((service.handler(),))
        certificate, key = (path.read_bytes() for path in self.authority.server_files)
        credentials = grpc.ssl_server_credentials([(key, certificate)])
        self.address = f"127.0.0.1:{self.server.add_secure_port('127.0.0.1:0', credentials)}"
        self.unnamed_address = f"127.0.0.2:{self.server.add_secure_port('127.0.0.2:0', credentials)}"
        self.offer.fleet_address = self.address
        self.server.start()

    def set_policy(self, terms: Terms) -> None:
        """Change what the federation agrees on."""
        self.offer.policy.CopyFrom(terms.policy())
        self.offer.policy_sha256 = terms.policy_sha256()

    def invite(self, partner: str = "buchladen", days: float = 1, **changes: Any) -> Invitation:
        """Hand out an invitation; ``changes`` falsify it."""
        secret, expires = self.registry.invite(partner, days=days)
        said = {
            "federation": "books",
            "address": self.address,
            "ca_certificate": self.authority.ca_file.read_text(),
            "partner": partner,
            "expires": expires,
            "secret": secret,
        }
        return Invitation.model_validate(said | changes)

    def close(self) -> None:
        """End the service and its database."""
        self.server.stop(0).wait()
        self.store.close()


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    (tmp_path / "server").mkdir()
    running = Operator(tmp_path / "server")
    yield running
    running.close()


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[Operator]:
    """Another federation's operator, or somebody who pretends to be this one's."""
    (tmp_path / "stranger").mkdir()
    running = Operator(tmp_path / "stranger")
    yield running
    running.close()


@pytest.fixture
def shop_folder(tmp_path: Path) -> Path:
    """A partner's folder with a vault, readable by its owner alone."""
    return write_shop(tmp_path)
