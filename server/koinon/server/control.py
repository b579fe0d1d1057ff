"""How this machine speaks to the SuperLink that it hosts: node keys are registered, runs listed and stopped.

Flower offers this as commands; here it is called in this process, since a command costs seconds. The classes used are
Flower's own but not public: the version of Flower is pinned, and ``tests/server/membership`` holds them to what is
needed of them.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from koinon.config import write_atomically
from koinon.errors import FederationError

__all__ = ["Control", "InnerPort"]


@dataclass(frozen=True)
class InnerPort:
    """The loopback port of a SuperLink behind its front (:mod:`koinon.server.superlink`).

    Attributes
    ----------
    port
        TCP port of 127.0.0.1.
    ca
        File of the authority's certificate; empty where the host runs insecurely.
    """

    port: int
    ca: str

    def write(self, target: Path) -> None:
        """Write it down for other commands on this machine."""
        write_atomically(target, json.dumps(asdict(self)))

    @classmethod
    def read(cls, source: Path) -> InnerPort:
        """Read where a running host is spoken to.

        Raises
        ------
        FederationError
            K765 no host runs; one that was killed leaves the note behind, but does not answer.
        """
        try:
            found = cls(**json.loads(source.read_text(encoding="utf-8")))
            with socket.create_connection(("127.0.0.1", found.port), timeout=5):
                return found
        except (OSError, ValueError, TypeError) as error:
            raise FederationError(
                "K765", "The federation's host is not running.", f"Start `koinon federation host {source.parent}`."
            ) from error


class Control:
    """Flower's Control interface, called from its own machine.

    Parameters
    ----------
    inner
        Where it listens.
    """

    def __init__(self, inner: InnerPort) -> None:
        from flwr.supercore.control import ControlHttpClient
        from flwr.supercore.interceptors.http import RuntimeVersionHttpInterceptor

        self._client = ControlHttpClient.from_server_address(
            server_address=f"127.0.0.1:{inner.port}",
            insecure=not inner.ca,
            root_certificates=Path(inner.ca).read_bytes() if inner.ca else None,
            interceptors=[RuntimeVersionHttpInterceptor(component_name="koinon")],
        )

    def nodes(self) -> Mapping[bytes, int]:
        """Registered node keys (PEM) and their ids.

        Raises
        ------
        FederationError
            K767 Flower refuses or is not there; so for all that follows.
        """
        from flwr.proto.control_pb2 import ListNodesRequest

        with _told():
            listed = self._client.ListNodes(ListNodesRequest()).nodes_info
        return {node.public_key: node.node_id for node in listed if node.status != "unregistered"}

    def online(self) -> set[int]:
        """Ids of the nodes that are connected."""
        from flwr.proto.control_pb2 import ListNodesRequest

        with _told():
            listed = self._client.ListNodes(ListNodesRequest()).nodes_info
        return {node.node_id for node in listed if node.status == "online"}

    def register(self, key: bytes, name: str) -> int:
        """Let a node key in; returns the node's id."""
        from flwr.proto.control_pb2 import RegisterNodeRequest

        with _told():
            return int(self._client.RegisterNode(RegisterNodeRequest(public_key=key, name=name)).node_id)

    def unregister(self, node: int) -> None:
        """Let a node's key in no more, ever."""
        from flwr.proto.control_pb2 import UnregisterNodeRequest

        with _told():
            self._client.UnregisterNode(UnregisterNodeRequest(node_id=node))

    def running(self) -> set[int]:
        """Ids of the runs that have not ended."""
        from flwr.proto.control_pb2 import ListRunsRequest

        with _told():
            runs = self._client.ListRuns(ListRunsRequest()).run_dict
        return {number for number, run in runs.items() if run.status.status != "finished"}

    def stop(self, run: int) -> None:
        """End a run."""
        from flwr.proto.control_pb2 import StopRunRequest

        with _told():
            self._client.StopRun(StopRunRequest(run_id=run))

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


@contextmanager
def _told() -> Iterator[None]:
    """Turn whatever Flower's client raises into one error."""
    import httpx
    from flwr.supercore.error import FlowerError

    try:
        yield
    except (httpx.HTTPError, FlowerError, OSError) as error:
        said = " ".join(str(error).split())[:300] or type(error).__name__
        raise FederationError("K767", f"Flower's SuperLink refuses: {said}.", "See logs/superlink.log.") from error
