"""A created federation's folder, on the machine of its operator.

::

    <folder>/federation.toml   what the members agree on (:class:`koinon.server.federation.Terms`)
    <folder>/host.toml         addresses and ports, and where the state lies (:class:`HostConfig`)
    <folder>/authority/        keys and certificates (:class:`~koinon.server.membership.authority.Authority`)
    <folder>/state.db          invitations, members, ledger, releases; unless host.toml names another database
    <folder>/superlink.db      Flower's own record: nodes, runs, messages under way
    <folder>/nodes.json        which node key, and which node, belongs to which approved member
    <folder>/control.json      while the host runs: where this machine speaks to the SuperLink
    <folder>/training/         releases, checkpoints and progress of the runs
    <folder>/logs/
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import tomli_w
from pydantic import Field

from koinon.config import Config, write_atomically
from koinon.errors import ConfigError
from koinon.protos.running import is_loopback
from koinon.server.federation import Terms
from koinon.server.membership.authority import Authority
from koinon.server.state import LedgerBook, Store, open_store

__all__ = ["Address", "FederationHome", "HostConfig", "Node"]

DEFAULT_PORT = 9440
_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*")


@dataclass(frozen=True)
class Address:
    """A host and a port; written ``host:port``, an IPv6 host in brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, said: str, default_port: int = DEFAULT_PORT) -> Address:
        """Read ``HOST``, ``HOST:PORT``, ``[IPV6]`` or ``[IPV6]:PORT``.

        Raises
        ------
        ConfigError
            K114 it is none of these.
        """
        bracketed = re.fullmatch(r"\[([0-9A-Fa-f:.]+)\](?::(\d{1,5}))?", said)
        plain = re.fullmatch(r"([^:\[\]]+)(?::(\d{1,5}))?", said)
        found = bracketed or plain
        if found is not None and _is_host(found[1]):
            port = int(found[2] or default_port)
            if 0 < port < 65536:
                return cls(found[1], port)
        raise ConfigError("K114", f"{said!r} is no address.", "Write it as host:port, an IPv6 host in brackets.")

    @property
    def loopback(self) -> bool:
        """Whether it can be reached from this machine alone."""
        return is_loopback(self.host)


class HostConfig(Config):
    """Where a federation's server is reached and listens; no part of what the members agree on."""

    address: str
    """Host name or IP address under which members reach it; stands in its certificate."""
    port: int = Field(ge=1, le=65535)
    """Of the SuperLink: nodes connect here."""
    join_port: int = Field(ge=1, le=65535)
    """Of the joining service."""
    listen: str = ""
    """IP address to listen on; empty: loopback where ``address`` is loopback, otherwise all."""
    state: str = ""
    """URL of the state's database; empty: ``state.db`` in the folder."""

    @property
    def fleet(self) -> Address:
        """Where nodes connect."""
        return Address(self.address, self.port)

    @property
    def joining(self) -> Address:
        """Where partners ask to join."""
        return Address(self.address, self.join_port)

    @property
    def listens_on(self) -> str:
        """The IP address that both services listen on."""
        if self.listen:
            return self.listen
        if is_loopback(self.address):
            return "::1" if ":" in self.address else "127.0.0.1"
        return "::" if ":" in self.address else "0.0.0.0"


@dataclass(frozen=True)
class Node:
    """What ties a member to its node."""

    key: bytes
    """Public key, PEM."""
    id: int
    """Under which Flower knows it."""


class FederationHome:
    """An open federation folder.

    Parameters
    ----------
    folder
        As made by :meth:`create`.

    Raises
    ------
    ConfigError
        K112 the folder holds no federation, K101-K103 one of its files is wrong.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        if not self.policy_file.is_file() or not (self.folder / "host.toml").is_file():
            raise ConfigError("K112", f"{folder} holds no federation.", "Make one with `koinon federation create`.")
        self.host = HostConfig.from_toml(self.folder / "host.toml")
        self.authority = Authority(self.folder / "authority")

    @classmethod
    def create(cls, folder: Path, terms: Terms, host: HostConfig) -> FederationHome:
        """Make a federation: its folder, keys, certificates, policy and database.

        Raises
        ------
        ConfigError
            K113 there is a federation already, K114 the two ports are one.
        ResourceError
            K801 the folder cannot be written, K830 the database cannot be reached.
        """
        if any((folder / name).exists() for name in ("federation.toml", "host.toml", "authority")):
            raise ConfigError("K113", f"{folder} holds a federation already.", "Choose another folder.")
        if host.port == host.join_port:
            raise ConfigError("K114", f"Port {host.port} cannot serve both.", "Choose another --join-port.")
        folder.mkdir(parents=True, exist_ok=True)
        Authority.create(folder / "authority", terms.name, [host.address])
        write_atomically(folder / "host.toml", host.to_toml())
        write_atomically(folder / "federation.toml", in_full(terms))
        home = cls(folder)
        store = home.open_store(create=True)
        try:
            LedgerBook(store, home.authority.signer()).begin(terms.name, terms.policy_sha256())
        finally:
            store.close()
        return home

    @property
    def policy_file(self) -> Path:
        """What the members agree on."""
        return self.folder / "federation.toml"

    @property
    def out(self) -> Path:
        """What training leaves."""
        return self.folder / "training"

    @property
    def logs(self) -> Path:
        """Output of the processes."""
        return self.folder / "logs"

    @property
    def nodes_file(self) -> Path:
        """Which node is which member; read by the SuperLink's front and by the coordinator."""
        return self.folder / "nodes.json"

    @property
    def control_file(self) -> Path:
        """Where this machine speaks to the SuperLink, while it runs."""
        return self.folder / "control.json"

    def terms(self) -> Terms:
        """What the members agree on, as it stands now.

        Raises
        ------
        ConfigError
            K101-K103 the policy file is missing or wrong.
        """
        return Terms.from_toml(self.policy_file)

    def open_store(self, *, create: bool = False) -> Store:
        """Open the state's database.

        Raises
        ------
        FederationError
            K770 it is of another version.
        ResourceError
            K830 it cannot be reached.
        """
        return open_store(self.host.state or self.folder / "state.db", create=create)


def in_full(terms: Terms) -> str:
    """The policy file's text: every setting, defaults included, so that no later default can change it."""
    return tomli_w.dumps(terms.model_dump(mode="json", exclude_none=True))


def draft(policy: Path | None, name: str | None = None) -> Terms:
    """The terms of a federation: those of a file, under ``name`` if one is given, or cautious defaults.

    An encoder that learners read texts with is pinned by its fingerprint, unless the file does so already.

    Raises
    ------
    ConfigError
        K101-K103 the file is wrong.
    SpaceError
        K300-K306 the encoder cannot be opened.
    """
    if policy is None:
        defaults: dict[str, object] = {
            "name": name,
            "learners": [{"name": "federated_gram"}],
            "minimum_participants": 3,
            "aggregation": "secure",
        }
        terms = Terms.from_dict(defaults, source="--name")
    else:
        terms = Terms.from_toml(policy)
        if name is not None:
            terms = Terms.from_dict(terms.model_dump() | {"name": name}, source="--name")
    if terms.encoder == "none" or terms.encoder_sha256:
        return terms
    from koinon.space import open_space

    return terms.model_copy(update={"encoder_sha256": open_space(terms.encoder).fingerprint})


def write_nodes(target: Path, nodes: Mapping[str, Node]) -> None:
    """Write which node is which member."""
    described = {name: {"key": node.key.decode("ascii"), "id": node.id} for name, node in sorted(nodes.items())}
    write_atomically(target, json.dumps(described, indent=1))


def read_nodes(source: Path) -> dict[str, Node]:
    """Read it back; a file that is not there names nobody."""
    try:
        described = json.loads(source.read_text(encoding="ascii"))
    except FileNotFoundError:
        return {}
    return {name: Node(entry["key"].encode("ascii"), int(entry["id"])) for name, entry in described.items()}


def _is_host(said: str) -> bool:
    try:
        ipaddress.ip_address(said)
    except ValueError:
        return _HOST.fullmatch(said) is not None and not said.replace(".", "").isdigit()
    return True
