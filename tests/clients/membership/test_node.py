"""A member's node over real Flower processes with TLS and node authentication: it runs the pinned app and no other."""

from __future__ import annotations

import contextlib
import fcntl
import inspect
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import psutil
import pytest
from flwr.supernode import fleet_http_connection, start_client_internal

from koinon.clients import pinning
from koinon.clients.keys import Keys
from koinon.clients.membership import Membership
from koinon.clients.node import node_command, node_environment, run_node
from koinon.errors import FederationError, PrivacyError, ResourceError
from koinon.protos import federation_pb2 as wire
from koinon.protos.thin_app import THIN_APP
from koinon.server.membership.authority import Authority

SERVER = '''
"""Asks every node one question and writes down what it says; stands in for koinon.server at the SuperLink."""
import json
import time
from pathlib import Path

from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import ServerApp

app = ServerApp()


@app.main()
def main(grid, context):
    while not (nodes := list(grid.get_node_ids())):
        time.sleep(0.2)
    instruction = ConfigRecord({"instruction": b"no instruction"})
    content = RecordDict({"instruction": instruction, "tensors": ArrayRecord()})
    asked = [Message(content, node, "query.catalogue") for node in nodes]
    waiting, answers = set(grid.push_messages(asked)), []
    deadline = time.monotonic() + 60
    while waiting and time.monotonic() < deadline:
        for message in grid.pull_messages(waiting):
            waiting.discard(message.metadata.reply_to_message_id)
            if message.has_error():
                answers.append({"error": message.error.code})
            else:
                answers.append({"reply": message.content["reply"]["reply"].hex()})
        time.sleep(0.1)
    Path(context.run_config["out"]).write_text(json.dumps(answers))
'''

OTHER = '''
"""What a server might like to run on a partner's machine."""
import os
from pathlib import Path

from flwr.clientapp import ClientApp

for place in {places!r}:
    (Path(place) / "trace").write_text("I was here")
app = ClientApp()
'''


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.wait()


class SuperLink:
    """A SuperLink with TLS and node authentication, and what ``flwr`` is asked of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority.create(folder / "authority", "books", ["127.0.0.1"])
        self.address = f"127.0.0.1:{free_port()}"
        home = folder / "flwr"
        home.mkdir()
        (home / "config.toml").write_text(
            f'[superlink]\ndefault = "books"\n\n[superlink.books]\naddress = "{self.address}"\n'
            f'root-certificates = "{self.authority.ca_file}"\n'
        )
        stand_in = folder / "path" / "koinon" / "server"
        stand_in.mkdir(parents=True)
        (stand_in / "__init__.py").write_text("")
        (stand_in / "app.py").write_text(SERVER)
        self.environment = {**os.environ, **node_environment(folder), "FLWR_HOME": str(home)}
        self.environment["PYTHONPATH"] = str(folder / "path")
        certificate, key = self.authority.server_files
        command = ["flower-superlink", "--ssl-ca-certfile", str(self.authority.ca_file)]
        command += ["--ssl-certfile", str(certificate), "--ssl-keyfile", str(key), "--enable-supernode-auth"]
        command += ["--host", "127.0.0.1", "--port", self.address.rpartition(":")[2]]
        command += ["--disable-runtime-dependency-installation"]
        with (folder / "superlink.log").open("wb") as log:
            self.process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(self.address[10:])), 1):
                return
            time.sleep(0.1)
        raise AssertionError((folder / "superlink.log").read_text())

    def flwr(self, *arguments: str) -> dict:
        done = subprocess.run(
            ["flwr", *arguments, "--format", "json"], env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout[done.stdout.index("{") :])

    def register(self, keys: Keys) -> str:
        public = self.folder / "node.pub"
        public.write_bytes(keys.node_public)
        return str(self.flwr("supernode", "register", str(public), "books", "--name", "buchladen")["node-id"])

    def ask(self, name: str, files: dict[str, str]) -> list[dict]:
        """Run an app of these files, and return what the nodes have said."""
        app, out = self.folder / name, self.folder / f"{name}.json"
        for file, content in files.items():
            (app / file).parent.mkdir(parents=True, exist_ok=True)
            (app / file).write_text(content)
        self.flwr("run", str(app), "books", "--run-config", f'out="{out}"')
        deadline = time.monotonic() + 90
        while not out.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert out.exists(), (self.folder / "superlink.log").read_text()[-3000:]
        time.sleep(0.1)
        return json.loads(out.read_text())


@pytest.fixture(scope="module")
def superlink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SuperLink]:
    running = SuperLink(tmp_path_factory.mktemp("superlink"))
    yield running
    end(running.process)


def accept(folder: Path, authority: Authority, address: str) -> Membership:
    """Write a membership as ``koinon partner join`` would."""
    said = Membership(
        federation="books",
        partner="buchladen",
        join_address=address,
        fleet_address=address,
        ca_certificate=authority.ca_file.read_text(),
        invitation_sha256="0" * 64,
        policy="",
        policy_sha256=sha256(wire.Policy().SerializeToString()).hexdigest(),
        ledger_key=authority.signer().key,
        code_sha256=pinning.code_sha256(),
        app_sha256=pinning.app_sha256(),
        koinon_version="0.1.0",
        flower_version="1.41.0",
        accepted=datetime.now(UTC),
    )
    said.save(folder)
    Keys.make(folder)
    return said


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "authority", "books", ["127.0.0.1"])


def worker_runs(folder: Path) -> bool:
    with (folder / "federation" / "worker.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_another_app_is_refused_leaves_no_trace_and_the_right_one_is_served_afterwards(
    superlink, shop_folder, tmp_path
):
    accept(shop_folder, superlink.authority, superlink.address)
    superlink.register(Keys(shop_folder))
    command = [sys.executable, "-m", "koinon.cli", "partner", "node", str(shop_folder)]
    with (tmp_path / "node.log").open("wb") as log:
        node = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        traces = tmp_path / "traces"
        traces.mkdir()
        other = {
            "pyproject.toml": THIN_APP.replace("koinon.clients.app:app", "other:app"),
            "other.py": OTHER.format(places=[str(traces)]),
        }
        assert superlink.ask("other", other) == [{"error": 7}]
        assert list(traces.iterdir()) == []
        installed = shop_folder / "federation" / "flower" / "apps"
        assert not installed.exists() or list(installed.iterdir()) == [], "nothing of it was unpacked"
        # the same names, a file more: shadowing the installed package from the bundle's folder
        shadow = {"pyproject.toml": THIN_APP, "koinon/clients/app.py": OTHER.format(places=[str(traces)])}
        assert superlink.ask("shadow", shadow) == [{"error": 7}]
        assert list(traces.iterdir()) == []
        (served,) = superlink.ask("right", {"pyproject.toml": THIN_APP})
        reply = wire.Reply.FromString(bytes.fromhex(served["reply"]))
        assert (reply.partner, reply.code) == ("buchladen", "K720"), "the question could not be read, and was answered"
        lines = [json.loads(line) for line in (shop_folder / "federation" / "egress.jsonl").read_text().splitlines()]
        assert [(line["purpose"], line["code"]) for line in lines] == [
            ("refuse app", "K643"),
            ("refuse app", "K643"),
            ("catalogue", "K720"),
        ]
        assert (shop_folder / "federation" / "node.log").read_text().count("[K643]") == 2
        assert worker_runs(shop_folder)
    finally:
        end(node)
    assert node.returncode == 0, (tmp_path / "node.log").read_text()
    assert not worker_runs(shop_folder), "the partner's worker ends with its node"


def test_an_unknown_key_is_told_so(superlink, shop_folder):
    accept(shop_folder, superlink.authority, superlink.address)
    with pytest.raises(FederationError, match="does not know this node's key") as caught:
        run_node(shop_folder)
    assert caught.value.code == "K738"


def test_a_key_that_is_taken_off_the_list_ends_the_node(superlink, shop_folder):
    accept(shop_folder, superlink.authority, superlink.address)
    node_id = superlink.register(Keys(shop_folder))

    def hear(line: str) -> None:
        if "SuperNode ID" in line:
            superlink.flwr("supernode", "unregister", node_id, "books")

    with pytest.raises(FederationError, match="does not hear it any more") as caught:
        run_node(shop_folder, hear)
    assert caught.value.code == "K738"


def test_a_server_of_another_authority_is_not_spoken_to(superlink, shop_folder, authority):
    accept(shop_folder, authority, superlink.address)
    with pytest.raises(ResourceError, match="K828"):
        run_node(shop_folder)


def test_another_installed_koinon_does_not_start(shop_folder, authority):
    said = accept(shop_folder, authority, "127.0.0.1:1")
    said.model_copy(update={"code_sha256": "0" * 64}).save(shop_folder)
    with pytest.raises(PrivacyError, match="K642"):
        run_node(shop_folder)


def test_another_accepted_app_does_not_start(shop_folder, authority):
    said = accept(shop_folder, authority, "127.0.0.1:1")
    said.model_copy(update={"app_sha256": "0" * 64}).save(shop_folder)
    with pytest.raises(PrivacyError, match="K643"):
        run_node(shop_folder)


@pytest.mark.parametrize("address", ["192.0.2.1:9440", "server.example.org:9440", "[2001:db8::1]:9440"])
def test_without_tls_only_on_this_machine(shop_folder, authority, address):
    accept(shop_folder, authority, address)
    with pytest.raises(PrivacyError, match="K648"):
        node_command(shop_folder, insecure=True)


@pytest.mark.parametrize("address", ["127.0.0.1:9440", "localhost:9440", "[::1]:9440"])
def test_on_the_loopback_it_may_be_without(shop_folder, authority, address):
    accept(shop_folder, authority, address)
    command = node_command(shop_folder, insecure=True)
    assert "--insecure" in command
    assert "--auth-supernode-private-key" not in command


def test_a_node_is_known_by_its_key_believes_one_authority_and_installs_nothing(shop_folder, authority):
    accept(shop_folder, authority, "127.0.0.1:9440")
    command = node_command(shop_folder, max_retries=3)
    options = dict(zip(command[4::2], command[5::2], strict=True))
    assert options["--auth-supernode-private-key"] == str(Keys(shop_folder).node_file)
    assert Path(options["--root-certificates"]).read_text() == authority.ca_file.read_text()
    assert options["--max-retries"] == "3"
    assert options["--host"] == "127.0.0.1"
    assert "--allow-runtime-dependency-installation" not in command
    set_ = node_environment(shop_folder)
    assert set_["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == set_["UV_OFFLINE"] == "1"
    assert set_["FLWR_TELEMETRY_ENABLED"] == "0"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_ends_a_node_that_waits_for_its_server(shop_folder, authority, number):
    accept(shop_folder, authority, f"127.0.0.1:{free_port()}")
    command = [sys.executable, "-m", "koinon.cli", "partner", "node", str(shop_folder)]
    node = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert node.stdout is not None
    for line in node.stdout:
        if "Uvicorn running" in line or "Application startup complete" in line:
            break
    started = psutil.Process(node.pid).children(recursive=True)
    assert started
    os.kill(node.pid, number)
    assert node.wait(30) == (-number if number == signal.SIGKILL else 0)
    node.stdout.close()
    _, left = psutil.wait_procs(started, timeout=30)
    assert left == []


FLOWER = {
    start_client_internal.start_client_internal: "9e89a6eb68fbec68",
    start_client_internal._pull_and_store_message: "eaf5d0e36dc34e4c",
    start_client_internal._init_connection: "800f9aba73646ea2",
    start_client_internal._verify_fab: "dc3eb78d803b8fe9",
    fleet_http_connection.http_request_response: "b80ca36779c2657f",
}
"""What :mod:`koinon.clients.supernode` relies on, as it was read."""


@pytest.mark.parametrize(("function", "known"), FLOWER.items(), ids=lambda value: getattr(value, "__name__", "hash"))
def test_flower_is_as_it_was_read(function, known):
    """A new Flower may look at bundles elsewhere: read these again, then write down their new hashes."""
    assert sha256(inspect.getsource(inspect.unwrap(function)).encode()).hexdigest()[:16] == known
