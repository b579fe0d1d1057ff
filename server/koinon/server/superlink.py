"""Flower's SuperLink behind a front: from outside only what an approved member's node needs, the rest from here alone.

Flower serves three interfaces on one port: *Fleet* for nodes (authenticated by their keys), *Control*, by which runs
are started and node keys registered (no authentication at all), and *Runtime* for its own apps. Here the same
application listens twice: on a port for the nodes, where only Fleet's paths exist and only listed keys are heard, and
on a loopback port for everything else. Which port a request came in by decides, nothing that it says.

What the front holds against a request from outside, before Flower reads its body:

* the path is one of Fleet's;
* the public key in its header is that of an approved member (``nodes.json``; a suspended member's key stays known to
  Flower, which takes no key twice, but is not heard);
* its size;
* the answers that it pushes are its own: Flower authenticates the node, but not the sender that a message names.

Started as a process by :mod:`koinon.server.hosting`.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import uvicorn
from flwr.common.constant import TRANSPORT_TYPE_GRPC_RERE
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER
from flwr.supercore.http_logging import get_uvicorn_log_config
from flwr.supercore.logger import console_handler
from flwr.superlink.cli.flower_superlink import SuperLinkLifespan
from flwr.superlink.config_loader import SuperLinkLifespanConfig, load_control_authn_plugin
from flwr.superlink.main import create_app
from flwr.superlink.routers.fleet.router import router as fleet
from google.protobuf.message import DecodeError

from koinon.server.membership.home import read_nodes

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Front", "main"]

LARGEST_REQUEST = 32 * 1024 * 1024
"""Bytes; Flower cuts arrays into pieces of 5 MiB."""
PUSH_MESSAGES = "/v1/fleet/push-messages"
FLEET_PATHS = frozenset(cast(Any, route).path for route in fleet.routes)


class Front:
    """ASGI middleware: what may pass by the nodes' port.

    Parameters
    ----------
    app
        Flower's application.
    inside
        The loopback port, where everything may pass.
    nodes
        The file that lists the members' keys; read again when it changes.
    """

    def __init__(self, app: ASGIApp, *, inside: int, nodes: Path) -> None:
        self.app = app
        self.inside = inside
        self.nodes = nodes
        self._seen: tuple[int, int] | None = None
        self._keys: frozenset[bytes] = frozenset()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it here."""
        if scope["type"] == "lifespan" or scope["server"][1] == self.inside:
            await self.app(scope, receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["path"] not in FLEET_PATHS or scope["method"] != "POST":
            await _refuse(send, 404)
        elif _key(scope) not in self._listed():
            await _refuse(send, 401)
        else:
            body = await _body(receive)
            if body is None:
                await _refuse(send, 413)
            elif scope["path"] == PUSH_MESSAGES and not _own(body):
                await _refuse(send, 403)
            else:
                await self.app(scope, _replayed(body, receive), send)

    def _listed(self) -> frozenset[bytes]:
        try:
            now = self.nodes.stat()
        except FileNotFoundError:
            return frozenset()
        seen = (now.st_mtime_ns, now.st_ino)
        if seen != self._seen:
            self._keys = frozenset(node.key for node in read_nodes(self.nodes).values())
            self._seen = seen
        return self._keys


def _key(scope: Scope) -> bytes | None:
    wanted = FLEET_HTTP_PUBLIC_KEY_HEADER.lower().encode()
    said = [value for name, value in scope["headers"] if name.lower() == wanted]
    if len(said) != 1:
        return None
    try:
        return base64.b64decode(said[0], validate=True)
    except binascii.Error:
        return None


async def _body(receive: Receive) -> bytes | None:
    """Read a body; ``None`` as soon as it is too large."""
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        piece = message.get("body", b"")
        size += len(piece)
        if size > LARGEST_REQUEST:
            return None
        pieces.append(piece)
        if not message.get("more_body", False):
            return b"".join(pieces)


def _own(body: bytes) -> bool:
    """Whether the messages that a node pushes name itself as their sender."""
    try:
        request = PushMessagesRequest.FromString(body)
    except DecodeError:
        return False
    return all(message.metadata.src_node_id == request.node.node_id for message in request.messages_list)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Give the body that was read already, and then what comes after it."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _refuse(send: Send, status: int) -> None:
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b'{"detail":"refused"}'})


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the SuperLink until it is told to end."""
    parser = argparse.ArgumentParser(prog="koinon.server.superlink")
    parser.add_argument("--listen", required=True, help="IP address for the nodes")
    parser.add_argument("--port", type=int, required=True, help="port for the nodes")
    parser.add_argument("--inside", type=int, required=True, help="loopback port for everything else")
    parser.add_argument("--database", required=True)
    parser.add_argument("--nodes", type=Path, required=True)
    parser.add_argument("--ca")
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    said = parser.parse_args(arguments)
    certificates = None
    if said.ca:
        read = [Path(name).read_bytes() for name in (said.ca, said.certificate, said.key)]
        certificates = (read[0], read[1], read[2])
    config = SuperLinkLifespanConfig(
        control_address="",
        health_server_address=None,
        host="127.0.0.1",  # Flower's own processes on this machine come in by the inner port
        port=said.inside,
        insecure=certificates is None,
        certificates=certificates,
        superexec_auth_secret=None,
        authn_plugin=load_control_authn_plugin(),
        event_log_plugin=None,
        fleet_event_log_plugin=None,
        enable_event_log=False,
        artifact_provider=None,
        enable_supernode_auth=True,
        fleet_api_type=TRANSPORT_TYPE_GRPC_RERE,
        fleet_api_address=None,
        simulation=False,
        ssl_ca_certfile=said.ca,
        ssl_certfile=said.certificate,
        ssl_keyfile=said.key,
        database=said.database,
        isolation="subprocess",
        runtime_dependency_install=False,
    )
    app = create_app(config, SuperLinkLifespan)
    app.add_middleware(Front, inside=said.inside, nodes=said.nodes)
    settings = uvicorn.Config(
        app,
        log_config=get_uvicorn_log_config(console_handler.level),
        proxy_headers=False,
        server_header=False,
        ws="none",
        ssl_certfile=said.certificate,
        ssl_keyfile=said.key,
        timeout_graceful_shutdown=3,
    )
    sockets = [_listening("127.0.0.1", said.inside), _listening(said.listen, said.port)]
    uvicorn.Server(settings).run(sockets=sockets)


def _listening(host: str, port: int) -> socket.socket:
    opened = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    opened.bind((host, port))
    opened.set_inheritable(True)
    return opened


if __name__ == "__main__":
    main()
