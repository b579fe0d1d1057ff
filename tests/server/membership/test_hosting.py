"""A hosted federation: real SuperLink, real front, real TLS; who gets through to what."""

from __future__ import annotations

import base64
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flwr.proto.fleet_pb2 import ActivateNodeRequest, ActivateNodeResponse, PushMessagesRequest
from flwr.proto.message_pb2 import Message, Metadata
from flwr.proto.node_pb2 import Node

from koinon.config import write_atomically
from koinon.errors import ConfigError, FederationError
from koinon.privacy.ledger.kinds import Kind
from koinon.server import hosting, run_hosted
from koinon.server.checkpoints import Checkpoints
from koinon.server.control import Control, InnerPort
from koinon.server.membership import FederationHome, Registry, open_registry
from koinon.server.membership.home import read_nodes
from koinon.server.membership.records import Applicant
from koinon.server.processes import MARK
from koinon.server.superlink import LARGEST_REQUEST


@dataclass
class Hosted:
    home: FederationHome
    registry: Registry

    def inner(self) -> InnerPort:
        return InnerPort.read(self.home.control_file)

    def post(self, port: int, path: str, body: bytes = b"", key: ec.EllipticCurvePrivateKey | None = None) -> Answer:
        """POST as a node would: signed with its key, if there is one."""
        headers = {"content-type": "application/protobuf", "accept": "application/protobuf"}
        if key is not None:
            now = datetime.now(UTC).isoformat()
            headers |= {
                "flwr-public-key": base64.b64encode(_pem(key)).decode(),
                "flwr-timestamp": now,
                "flwr-signature": base64.b64encode(key.sign(now.encode(), ec.ECDSA(hashes.SHA256()))).decode(),
            }
        request = urllib.request.Request(f"https://127.0.0.1:{port}{path}", data=body, headers=headers)
        context = ssl.create_default_context(cafile=str(self.home.authority.ca_file))
        try:
            with urllib.request.urlopen(request, context=context, timeout=20) as said:
                return Answer(said.status, said.read())
        except urllib.error.HTTPError as error:
            with error:  # it holds the connection
                return Answer(error.code, error.read())

    def activate(self, key: ec.EllipticCurvePrivateKey) -> Answer:
        request = ActivateNodeRequest(public_key=_pem(key), heartbeat_interval=30)
        return self.post(self.home.host.port, "/v1/fleet/activate-node", request.SerializeToString(), key)


@dataclass
class Answer:
    status: int
    body: bytes


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@contextmanager
def _hosting(home: FederationHome, **how: Any) -> Iterator[None]:
    stopped, ready = threading.Event(), threading.Event()
    failed: list[BaseException] = []

    def run() -> None:
        try:
            hosting.host(home, stopped=stopped, ready=ready.set, **how)
        except BaseException as error:
            failed.append(error)
            ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert ready.wait(90)
        if failed:
            raise failed[0]
        yield
    finally:
        stopped.set()
        thread.join(60)
    assert not failed


def _eventually(true: Callable[[], bool], seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    from tests.server.membership.conftest import _home

    home = _home(tmp_path_factory.mktemp("hosted") / "home")
    with open_registry(home) as registry, _hosting(home):
        yield Hosted(home, registry)


def _approved(hosted: Hosted, name: str) -> ec.EllipticCurvePrivateKey:
    key = ec.generate_private_key(ec.SECP384R1())
    secret, _ = hosted.registry.invite(name, days=1)
    hosted.registry.apply(secret, Applicant(name, _pem(key), b"m" * 32, "0" * 64, "0" * 64, "0.1.0", 1))
    hosted.registry.approve(name)
    _eventually(lambda: name in read_nodes(hosted.home.nodes_file))
    return key


@pytest.fixture(scope="module")
def listed(hosted: Hosted) -> ec.EllipticCurvePrivateKey:
    """An approved member's key."""
    return _approved(hosted, "listed")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/control/list-nodes",
        "/v1/control/start-run",
        "/v1/control/register-node",
        "/v1/runtime/acquire-task",
        "/v1/runtime/get-nodes",
        "/v1/fleet/../control/list-nodes",
        "/v1/fleet/%2e%2e/control/list-nodes",
        "//v1/control/list-nodes",
        "/v1/control/list-nodes/",
        "/health",
        "/docs",
        "/openapi.json",
    ],
)
def test_from_outside_nothing_but_fleet_is_there(hosted: Hosted, listed: ec.EllipticCurvePrivateKey, path: str) -> None:
    assert hosted.post(hosted.home.host.port, path, key=listed).status == 404


def test_from_this_machine_control_answers(hosted: Hosted) -> None:
    assert hosted.post(hosted.inner().port, "/v1/control/list-nodes").status == 200


def test_whatever_a_request_says_of_its_host_the_port_decides(hosted: Hosted) -> None:
    inner = hosted.inner().port
    request = urllib.request.Request(
        f"https://127.0.0.1:{hosted.home.host.port}/v1/control/list-nodes",
        data=b"",
        headers={
            "host": f"127.0.0.1:{inner}",
            "x-forwarded-for": "127.0.0.1",
            "x-forwarded-port": str(inner),
            "content-type": "application/protobuf",
        },
    )
    context = ssl.create_default_context(cafile=str(hosted.home.authority.ca_file))
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, context=context, timeout=20)
    with caught.value as refusal:
        assert refusal.code == 404


def test_an_unknown_key_is_not_heard(hosted: Hosted) -> None:
    assert hosted.activate(ec.generate_private_key(ec.SECP384R1())).status == 401


def test_no_key_is_not_heard(hosted: Hosted) -> None:
    assert hosted.post(hosted.home.host.port, "/v1/fleet/activate-node").status == 401


def test_a_members_node_works_until_it_is_suspended_and_again_when_it_is_resumed(hosted: Hosted) -> None:
    key = _approved(hosted, "working")
    node = read_nodes(hosted.home.nodes_file)["working"].id
    answer = hosted.activate(key)
    assert answer.status == 200
    assert ActivateNodeResponse.FromString(answer.body).node_id == node
    control = Control(hosted.inner())
    assert node in control.online()
    hosted.registry.suspend("working")
    _eventually(lambda: hosted.activate(key).status == 401)
    hosted.registry.resume("working")
    _eventually(lambda: "working" in read_nodes(hosted.home.nodes_file))
    assert read_nodes(hosted.home.nodes_file)["working"].id == node
    beat = hosted.post(
        hosted.home.host.port,
        "/v1/fleet/send-node-heartbeat",
        _heartbeat(node),
        key,
    )
    assert beat.status == 200
    control.close()


def _heartbeat(node: int) -> bytes:
    from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest

    said = SendNodeHeartbeatRequest(node=Node(node_id=node), heartbeat_interval=30)
    return bytes(said.SerializeToString())


def test_a_removed_members_key_is_forgotten_by_flower(hosted: Hosted) -> None:
    key = _approved(hosted, "removed")
    control = Control(hosted.inner())
    assert _pem(key) in control.nodes()
    hosted.registry.remove("removed")
    _eventually(lambda: _pem(key) not in control.nodes())
    assert hosted.activate(key).status == 401
    control.close()


def test_a_rotated_key_takes_the_old_ones_place(hosted: Hosted) -> None:
    old = _approved(hosted, "rotating")
    new = ec.generate_private_key(ec.SECP384R1())
    hosted.registry.rotate("rotating", _pem(new))
    _eventually(lambda: hosted.activate(new).status == 200)
    assert hosted.activate(old).status == 401


def test_a_node_cannot_push_an_answer_in_anothers_name(hosted: Hosted, listed: ec.EllipticCurvePrivateKey) -> None:
    node = read_nodes(hosted.home.nodes_file)["listed"].id
    forged = PushMessagesRequest(
        node=Node(node_id=node), messages_list=[Message(metadata=Metadata(src_node_id=node - 1))]
    )
    answer = hosted.post(hosted.home.host.port, "/v1/fleet/push-messages", forged.SerializeToString(), listed)
    assert answer.status == 403


def test_a_body_that_is_too_large_is_refused(hosted: Hosted, listed: ec.EllipticCurvePrivateKey) -> None:
    try:
        status = hosted.post(hosted.home.host.port, "/v1/fleet/push-object", bytes(LARGEST_REQUEST + 1), listed).status
    except (ConnectionError, urllib.error.URLError):
        status = 413  # the front has closed before everything was sent
    assert status == 413
    assert hosted.activate(listed).status == 200


def test_two_hosts_of_one_federation_are_one_too_many(hosted: Hosted) -> None:
    with pytest.raises(FederationError) as caught, _hosting(hosted.home):
        pass
    assert caught.value.code == "K766"


@pytest.mark.slow
def test_a_restart_keeps_the_nodes_and_leaves_no_process(tmp_path: Path, make_home: Any) -> None:
    home = make_home(tmp_path / "home")
    with open_registry(home) as registry:
        hosted = Hosted(home, registry)
        with _hosting(home):
            key = _approved(hosted, "alpha")
            node = read_nodes(home.nodes_file)["alpha"].id
            mark = (home.folder / ".host").read_text()
        assert not [p for p in psutil.process_iter() if _marked(p, mark)]
        assert not home.control_file.exists()
        # decided while nobody hosts: in force at the next start
        secret, _ = registry.invite("beta", days=1)
        assert secret
        with _hosting(home):
            assert read_nodes(home.nodes_file)["alpha"].id == node
            assert hosted.activate(key).status == 200


def _marked(process: psutil.Process, mark: str) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == mark)
    except (psutil.Error, OSError):
        return False


def test_training_needs_the_host(tmp_path: Path, make_home: Any) -> None:
    home = make_home(tmp_path / "home", minimum_participants=1)
    write_atomically(home.nodes_file, '{"alpha": {"key": "x", "id": 1}}')
    with pytest.raises(FederationError) as caught:
        run_hosted(home)
    assert caught.value.code == "K765"


def test_training_needs_members(tmp_path: Path, make_home: Any) -> None:
    with pytest.raises(FederationError) as caught:
        run_hosted(make_home(tmp_path / "home"))
    assert caught.value.code == "K704"


@pytest.mark.parametrize("forget", [True, False])
def test_a_run_is_not_resumed_with_what_was_to_be_forgotten(tmp_path: Path, make_home: Any, forget: bool) -> None:
    home = make_home(tmp_path / "home", minimum_participants=1)
    with open_registry(home) as registry:
        key = ec.generate_private_key(ec.SECP384R1())
        secret, _ = registry.invite("alpha", days=1)
        registry.apply(secret, Applicant("alpha", _pem(key), b"m" * 32, "0" * 64, "0" * 64, "0.1.0", 1))
        policy = home.terms().policy_sha256()
        state = Checkpoints(home.out).begin("r1", policy)
        registry.book.append(Kind.RUN_STARTED, "shops", run=state.run, policy_sha256=policy, partners=1, resumed=False)
        registry.leave("alpha", forget=forget)
    write_atomically(home.nodes_file, '{"beta": {"key": "x", "id": 1}}')
    with pytest.raises(FederationError) as caught:
        run_hosted(home)
    assert caught.value.code == "K765"  # nobody hosts; what was to be dropped is dropped before that
    assert (Checkpoints(home.out).run_state() is None) == forget


def test_insecure_serves_loopback_alone(tmp_path: Path, make_home: Any) -> None:
    home = make_home(tmp_path / "home")
    write_atomically(home.folder / "host.toml", home.host.model_copy(update={"address": "192.0.2.1"}).to_toml())
    with pytest.raises(ConfigError) as caught, _hosting(FederationHome(home.folder), insecure=True):
        pass
    assert caught.value.code == "K115"


def test_a_certificate_for_another_address_is_found_before_the_members_find_it(tmp_path: Path, make_home: Any) -> None:
    home = make_home(tmp_path / "home")
    write_atomically(home.folder / "host.toml", home.host.model_copy(update={"address": "localhost.example"}).to_toml())
    with pytest.raises(ConfigError) as caught, _hosting(FederationHome(home.folder)):
        pass
    assert caught.value.code == "K116"
