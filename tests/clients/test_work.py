"""What a partner does when it is asked, and what it refuses."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from koinon.clients import answering
from koinon.clients.arms import choose
from koinon.clients.channel import socket_path
from koinon.clients.home import Home
from koinon.clients.partner_state import Partners
from koinon.clients.places import place
from koinon.clients.wire import read_ask
from koinon.clients.work import perform
from koinon.errors import FederationError, KoinonError, PrivacyError
from koinon.protos import federation_pb2 as wire
from koinon.recommenders.federated import registry
from koinon.recommenders.protocol import Catalogue, Contribution
from koinon.server import FederationConfig
from koinon.server.checkpoints import Checkpoint
from koinon.server.wire import Order

Make = Callable[..., Path]


@pytest.fixture
def shops(make_shop: Make) -> list[Path]:
    return [make_shop("alpha"), make_shop("beta", seed=1, first=10)]


@pytest.fixture
def config(shops: list[Path]) -> FederationConfig:
    return FederationConfig.model_validate(
        {
            "name": "shops",
            "partners": {shop.name: shop for shop in shops},
            "learners": [{"name": "federated_popularity"}],
            "encoder": "none",
        }
    )


def home_of(config: FederationConfig, name: str = "alpha", *, worker: bool = False) -> Home:
    return Home(config.partners[name], name, config.policy_sha256(), worker=worker)


def order_of(config: FederationConfig, *, widened: bool = False) -> Order:
    """What a server asks in round 1, after it has seen both catalogues."""
    asked = Order("run1", config.policy(), config.policy_sha256())
    catalogues = [told(perform_order("catalogue", home_of(config, name), asked)) for name in config.partners]
    plan = registry.plan("federated_popularity", {})
    release = plan.initial(catalogues, None, rng=np.random.default_rng(0))
    task = plan.task(release, 1)
    if widened:
        task = replace(task, specs=(replace(task.specs[0], clip=float("inf")),))
    checkpoints = {"federated_popularity": Checkpoint(release, {}, ())}
    return Order("run1", config.policy(), config.policy_sha256(), checkpoints, task)


def told(result: object) -> Catalogue:
    assert isinstance(result, Catalogue)
    return result


def content(order: Order) -> tuple[bytes, dict[str, np.ndarray]]:
    from flwr.supercore.task_identity import TaskIdentity

    TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 1, 1
    records = order.to(7, "query.catalogue", ttl=60).content
    said = records.config_records["instruction"]["instruction"]
    assert isinstance(said, bytes)
    return said, {name: array.numpy() for name, array in records.array_records["tensors"].items()}


def perform_order(phase: str, home: Home, order: Order) -> object:
    said, tensors = content(order)
    return perform(phase, home, said, tensors, Partners())  # type: ignore[arg-type]


def test_a_contribution_has_the_specs_that_the_policy_implies(config: FederationConfig) -> None:
    given = perform_order("contribute", home_of(config), order_of(config))
    assert isinstance(given, Contribution)
    assert {name: (a.dtype.name, a.shape) for name, a in given.arrays.items()} == {"counts": ("float32", (30,))}
    assert np.linalg.norm(given.arrays["counts"].astype(float)) <= 3.0 * given.n_users


def test_a_server_cannot_widen_what_leaves_by_asking_for_more(config: FederationConfig) -> None:
    with pytest.raises(PrivacyError) as caught:
        perform_order("contribute", home_of(config), order_of(config, widened=True))
    assert caught.value.code == "K612"


def test_the_same_round_asked_twice_is_answered_the_same(config: FederationConfig) -> None:
    order = order_of(config)
    first, again = (perform_order("contribute", home_of(config), order) for _ in range(2))
    assert isinstance(first, Contribution)
    assert isinstance(again, Contribution)
    assert first.arrays["counts"].tobytes() == again.arrays["counts"].tobytes()


def test_a_damaged_release_is_not_worked_on(config: FederationConfig) -> None:
    said, tensors = content(order_of(config))
    tensors["federated_popularity/counts"] = tensors["federated_popularity/counts"] + 1
    with pytest.raises(FederationError) as caught:
        read_ask(said, tensors)
    assert caught.value.code == "K721"


def test_one_person_moves_the_sum_by_no_more_than_the_bound(config: FederationConfig, make_shop: Make) -> None:
    from koinon.data import Tables, Vault

    order, home = order_of(config), home_of(config)
    whole = perform_order("contribute", home, order)
    vault = Vault(home.folder)
    tables = vault.tables()
    others = [frame.filter(frame["user_id"] != "alpha-reader-3") for frame in (tables.events, tables.users)]
    Vault.create(home.folder, vault.config, Tables(tables.items, *others))
    (home.folder / "federation" / "told.json").unlink()  # as if it had been so when the run began
    without = perform_order("contribute", home, order)
    assert isinstance(whole, Contribution)
    assert isinstance(without, Contribution)
    moved = np.linalg.norm(whole.arrays["counts"].astype(float) - without.arrays["counts"])
    assert 0 < moved <= 3.0 + 1e-4


def test_a_node_knows_its_folder_from_its_own_start_not_from_the_server(tmp_path: Path) -> None:
    listed = tmp_path / "simulated.json"
    listed.write_text(json.dumps([{"partner": "mallory", "folder": "/elsewhere", "policy": "0"}]))
    own = {"partner": "alpha", "folder": "/own", "policy": "1", "partition-id": 0}
    assert Home.find(own, {"simulated": str(listed)}).folder == Path("/own")
    assert Home.find({"partition-id": 0}, {"simulated": str(listed)}).folder == Path("/elsewhere")
    with pytest.raises(FederationError, match="K722"):
        Home.find({}, {"simulated": str(listed)})


def test_partners_of_one_machine_take_turns(tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / str(number)).touch()
    inside, most = [], []

    def work() -> None:
        with place(tmp_path):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.1)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 2


class TestWorker:
    """The partner's worker, a real process."""

    @pytest.fixture
    def asked(self, config: FederationConfig) -> Iterator[Callable[[str, Order], wire.Reply]]:
        home = home_of(config, worker=True)
        node = {"partner": home.name, "folder": str(home.folder), "policy": home.accepted, "worker": True}

        def ask(phase: str, order: Order) -> wire.Reply:
            records = pickle.loads(pickle.dumps(order.to(7, "query.catalogue", ttl=60).content))
            said = answering.answer(phase, records, node, {}).config_records["reply"]["reply"]  # type: ignore[arg-type]
            assert isinstance(said, bytes)
            return wire.Reply.FromString(said)

        yield ask
        for process in _workers(home.folder):
            process.terminate()
            process.wait(timeout=20)

    def test_it_answers_stays_and_is_closed_to_others(
        self, config: FederationConfig, asked: Callable[[str, Order], wire.Reply]
    ) -> None:
        order = order_of(config)
        assert asked("catalogue", order).catalogue.public
        assert asked("contribute", order).users == 60
        folder = config.partners["alpha"]
        assert len(_workers(folder)) == 1
        path = socket_path(folder)
        assert path.stat().st_mode & 0o077 == 0
        assert path.parent.stat().st_mode & 0o077 == 0

    def test_only_a_code_comes_out_of_it(
        self, config: FederationConfig, asked: Callable[[str, Order], wire.Reply]
    ) -> None:
        (config.partners["alpha"] / "vault" / "vault.json").write_text('{"alpha-reader-3": ')
        reply = asked("contribute", order_of(replace_partner(config)))
        assert reply == wire.Reply(partner="alpha", code="K209")
        assert "K209" in (config.partners["alpha"] / "federation" / "errors.log").read_text()

    def test_it_ends_with_what_it_watches(self, config: FederationConfig) -> None:
        watched = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        folder = config.partners["alpha"]
        (folder / "federation").mkdir(exist_ok=True)
        worker = subprocess.Popen([sys.executable, "-m", "koinon.clients.worker", str(folder), str(watched.pid)])
        until = time.monotonic() + 60
        while not socket_path(folder).exists() and time.monotonic() < until:
            time.sleep(0.05)
        watched.kill()
        watched.wait()
        assert worker.wait(timeout=30) == 0
        assert not socket_path(folder).exists()


def replace_partner(config: FederationConfig) -> FederationConfig:
    """The same federation, as seen before alpha's vault was damaged."""
    beta = config.partners["beta"]
    return config.model_copy(update={"partners": {"beta": beta}})


def _workers(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if "koinon.clients.worker" in line and str(folder) in line and process.pid != os.getpid():
            found.append(process)
    return found


class TestChoice:
    """Which arm a partner deploys."""

    own = np.tile([0.1, 0.3, 0.0, 0.2], 50)

    def test_a_better_federated_arm_is_deployed(self) -> None:
        found = choose("local_space", {"federated_gram": self.own + 0.05}, self.own)
        assert (found.arm, found.users) == ("federated_gram", 200)
        assert found.gain == pytest.approx(0.05)

    def test_a_worse_one_is_not(self) -> None:
        assert choose("local_space", {"federated_gram": self.own - 0.05}, self.own).arm == "local_space"

    def test_one_that_is_ahead_by_noise_alone_is_not(self) -> None:
        noise = np.random.default_rng(0).normal(0, 1, len(self.own))
        noise += 0.01 - noise.mean()
        assert choose("local_space", {"federated_gram": self.own + noise}, self.own).arm == "local_space"

    def test_the_best_of_several_is_held_against_the_own(self) -> None:
        federated = {"a": self.own + 0.02, "b": self.own + 0.04}
        assert choose("local_space", federated, self.own).arm == "b"

    def test_of_two_equal_by_noise_the_one_listed_last_is_deployed(self) -> None:
        noise = np.random.default_rng(0).normal(0, 0.1, len(self.own))
        federated = {"a": self.own + 0.2 + noise - noise.mean() + 0.001, "b": self.own + 0.2}
        assert choose("local_space", federated, self.own).arm == "b"

    def test_without_users_or_without_a_federated_arm_the_own_stays(self) -> None:
        assert choose("local", {}, self.own).arm == "local"
        assert choose("local", {"a": np.empty(0)}, np.empty(0)).arm == "local"


def test_an_unknown_learner_and_a_wrong_setting_are_named() -> None:
    with pytest.raises(KoinonError, match="K440"):
        registry.plan("federated_magic", {})
    with pytest.raises(KoinonError, match="K441"):
        registry.plan("federated_popularity", {"clip": -1})
