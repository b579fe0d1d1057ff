"""A partner under a privacy budget: charged before anything leaves, once for an answer, and no further than it goes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from koinon.clients import answering, door
from koinon.clients.budget import charge_for, open_account, sent_by
from koinon.clients.home import Home
from koinon.clients.partner_state import Partners
from koinon.clients.wire import read_ask
from koinon.clients.work import perform
from koinon.errors import KoinonError, PrivacyError
from koinon.privacy.budget import ACCOUNT_FILE, spent
from koinon.recommenders.federated import registry
from koinon.recommenders.federated.budgeting import prices
from koinon.recommenders.protocol import Contribution
from koinon.server import FederationConfig
from koinon.server.checkpoints import Checkpoint
from koinon.server.wire import Order

Make = Callable[..., Path]
LEARNER = "federated_popularity"
SETTINGS = {"rounds": 2}


@pytest.fixture
def config(make_shop: Make) -> FederationConfig:
    return configured([make_shop("alpha"), make_shop("beta", seed=1, first=10)])


def configured(
    shops: list[Path], terms: Mapping[str, object] = MappingProxyType({}), **privacy: object
) -> FederationConfig:
    return FederationConfig.model_validate(
        {
            **terms,
            "name": "shops",
            "partners": {shop.name: shop for shop in shops},
            "learners": [{"name": LEARNER, "settings": SETTINGS}],
            "encoder": "none",
            "metrics": [],
            "split": {"minimum_item_events": 1},
            "privacy": {"epsilon": 1.0, "delta": 1e-5, "people": 1000, "partners": 2, **privacy},
        }
    )


def home_of(config: FederationConfig) -> Home:
    return Home(config.partners["alpha"], "alpha", config.policy_sha256())


def ask(config: FederationConfig, round_: int = 1, *, run: str = "run1", seen: float = 0.0) -> tuple[bytes, dict]:
    """What a server sends in a round; ``seen`` changes the release that it goes with."""
    from flwr.supercore.task_identity import TaskIdentity

    from koinon.recommenders.federated.identities import catalogue_of

    TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 1, 1
    from koinon.data import Vault

    catalogues = [catalogue_of(name, Vault(f).tables().items.sort("item_id")) for name, f in config.partners.items()]
    plan = registry.plan(LEARNER, SETTINGS)
    release = plan.initial(catalogues, None, rng=np.random.default_rng(0))
    counts = release.arrays["counts"] + np.float32(seen)
    release = replace(release, number=round_ - 1, arrays={**release.arrays, "counts": counts})
    order = Order(run, config.policy(), config.policy_sha256(), {LEARNER: Checkpoint(release, {}, ())},
                  plan.task(release, round_))  # fmt: skip
    records = order.to(7, "train.contribute", ttl=60).content
    said = records.config_records["instruction"]["instruction"]
    assert isinstance(said, bytes)
    return said, {name: array.numpy() for name, array in records.array_records["tensors"].items()}


def contributed(config: FederationConfig, *asked: object, **told: object) -> Contribution:
    given = perform("contribute", home_of(config), *ask(config, *asked, **told), Partners())  # type: ignore[arg-type]
    assert isinstance(given, Contribution)
    return given


def crossed(config: FederationConfig, given: Contribution, *asked: object, **told: object) -> dict:
    """Let it out, and return the log's line."""
    home, (said, _) = home_of(config), ask(config, *asked, **told)  # type: ignore[arg-type]
    door.cross(given, answering._policy("contribute", home, read_ask(said)), home.egress_log)
    return json.loads(home.egress_log.read_text().splitlines()[-1])


def test_what_leaves_is_noisy_charged_and_says_nothing_else(config: FederationConfig) -> None:
    given = contributed(config)
    price = prices(config.privacy, {LEARNER: SETTINGS}, "alpha")[LEARNER, 1]
    (charge,) = open_account(home_of(config)).charges
    assert (charge.purpose, charge.key, charge.events) == (f"{LEARNER} round 1", f"run1/{LEARNER}/1", price.events)
    assert charge.noise["counts"] == pytest.approx(price.multiplier * 3.0, rel=1e-4)
    assert given.arrays["counts"].dtype == np.float32
    assert given.arrays["counts"].std() > charge.noise["counts"] / 2
    assert (given.n_users, given.metrics) == (1000, {})
    line = crossed(config, given)
    assert line["charge"] == charge.named()
    assert line["users"] == 1000


def test_the_same_question_is_answered_with_the_same_bytes_and_charged_once(config: FederationConfig) -> None:
    first, again = contributed(config), contributed(config)
    assert first.arrays["counts"].tobytes() == again.arrays["counts"].tobytes()
    assert len(open_account(home_of(config)).charges) == 1
    other = contributed(config, seen=1.0)  # another release: the stored answer would not be one
    assert not np.array_equal(first.arrays["counts"], other.arrays["counts"])
    assert len(open_account(home_of(config)).charges) == 2


def test_distributed_noise_is_charged_for_every_answer(make_shop: Make) -> None:
    shops = [make_shop(name, seed=k) for k, name in enumerate(("alpha", "beta", "gamma"))]
    terms = {"aggregation": "secure", "minimum_participants": 3}
    config = configured(shops, terms, mechanism="distributed", partners=3, sharing=[], epsilon=6.0)
    first, again = contributed(config), contributed(config)
    assert not np.array_equal(first.arrays["counts"], again.arrays["counts"])
    assert len(open_account(home_of(config)).charges) == 2


def test_training_stops_before_the_budget_and_a_new_run_goes_on_with_the_account(config: FederationConfig) -> None:
    for round_ in (1, 2):
        contributed(config, round_)
    account = open_account(home_of(config))
    events = [event for charge in account.charges for event in charge.events]
    assert 0.99 < spent(events, 1e-5) <= 1.0
    before = (home_of(config).folder / ACCOUNT_FILE).read_bytes()
    with pytest.raises(PrivacyError, match="K670"):
        contributed(config, 1, run="run2")
    assert (home_of(config).folder / ACCOUNT_FILE).read_bytes() == before
    contributed(config, 2)  # what was sent may be sent again


def test_an_account_that_was_rolled_back_refuses_to_go_on(config: FederationConfig) -> None:
    given = contributed(config)
    crossed(config, given)
    (home_of(config).folder / ACCOUNT_FILE).unlink()
    with pytest.raises(PrivacyError, match="K672"):
        contributed(config, 2)
    with pytest.raises(PrivacyError, match="K672"):
        crossed(config, given)


def test_nothing_leaves_that_was_not_charged(config: FederationConfig) -> None:
    given = contributed(config)
    said, _ = ask(config)
    uncharged = replace(answering._policy("contribute", home_of(config), read_ask(said)), charge=None)
    with pytest.raises(PrivacyError) as caught:
        door.cross(given, uncharged, home_of(config).egress_log)
    assert caught.value.code == "K674"
    assert charge_for(home_of(config), read_ask(ask(config, 2)[0])) is None


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import koinon.clients.budget as budget
from tests.clients.test_budget import configured, contributed

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

setattr(budget, sys.argv[2], die)
contributed(configured([Path(sys.argv[3]), Path(sys.argv[4])]))
"""


@pytest.mark.parametrize("where", ["protected", "write_atomically"])
def test_killed_between_charge_and_sending_it_has_lost_budget_and_told_nothing(
    config: FederationConfig, where: str
) -> None:
    root = Path(__file__).resolve().parents[2]
    folders = [str(folder) for folder in config.partners.values()]
    ended = subprocess.run([sys.executable, "-c", KILLED, str(root), where, *folders], check=False, cwd=root)
    assert ended.returncode == -signal.SIGKILL
    home = home_of(config)
    assert len(open_account(home).charges) == 1
    assert sent_by(home, "run1", LEARNER) == {}
    contributed(config)
    assert len(open_account(home).charges) == 2
    assert os.listdir(home.run_folder("run1"))


def test_it_counts_what_is_listed_and_not_what_is_taken(config: FederationConfig) -> None:
    """The domain of a contribution holds every listed item, whoever has taken it."""
    from koinon.clients.budget import RoundBudget

    said, tensors = ask(config)
    asked = read_ask(said, tensors)
    state = Partners().open(home_of(config), asked.agreement)
    plan = registry.plan(LEARNER, SETTINGS)
    assert asked.task is not None
    assert asked.agreement.privacy is not None
    domain = RoundBudget(state, asked, asked.task, plan, asked.agreement.privacy).domain()
    assert domain.items["item_id"].to_list() == state.vault.tables().items["item_id"].sort().to_list()
    taken = {(domain.user_ids[u], domain.items["item_id"][int(i)]) for u, i in
             zip(domain.events.user.tolist(), domain.events.item.tolist(), strict=True)}  # fmt: skip
    train = state.domain
    assert taken == {(train.user_ids[u], train.items["item_id"][int(i)]) for u, i in
                     zip(train.events.user.tolist(), train.events.item.tolist(), strict=True)}  # fmt: skip


def test_a_policy_that_would_not_hold_is_refused_by_the_federations_file(config: FederationConfig) -> None:
    for change, code in (({"metrics": ["ndcg@10"]}, "K666"), ({"split": {"minimum_item_events": 2}}, "K667")):
        with pytest.raises(KoinonError) as caught:
            FederationConfig.model_validate({**config.model_dump(), **change})
        assert caught.value.code == code
