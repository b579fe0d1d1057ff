"""A partner's privacy budget in a round: what it costs, that it is charged before anything leaves, and what was sent.

The order is: check, compute, charge, add noise, keep, send. A charge is on the disk before there is any noised tensor;
whatever dies afterwards has cost budget and told nothing. Under local noise the noised tensors are kept, and the same
question in the same run is answered with the same bytes, which costs nothing. Under distributed noise every answer is
charged anew and gets fresh noise: two totals over different survivors with the same shares of noise would differ by one
partner's sums and its share alone.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from koinon.clients.home import Home
from koinon.clients.partner_state import PartnerState
from koinon.clients.wire import Ask
from koinon.config import write_atomically
from koinon.data import Domain, Interactions
from koinon.privacy.budget import Account, Charge, NoiseSource, PrivacyConfig
from koinon.recommenders.federated.budgeting import check_policy, noise_of, prices, protected
from koinon.recommenders.protocol import Contribution, FederationPlan, Task

__all__ = ["RoundBudget", "charge_for", "open_account", "sent_by"]


def open_account(home: Home) -> Account:
    """A partner's account, held against its egress log.

    Raises
    ------
    PrivacyError
        K671 it is damaged, K672 it was rolled back or removed.
    """
    return Account(home.folder, _last_charge(home.egress_log))


def charge_for(home: Home, ask: Ask) -> Charge | None:
    """The charge that a round's answer leaves under; ``None``: nothing was charged.

    Raises
    ------
    PrivacyError
        As :func:`open_account`.
    """
    return None if ask.task is None else open_account(home).find(_key(ask, ask.task))


def sent_by(home: Home, run: str, learner: str) -> dict[str, NDArray[np.floating]]:
    """What a partner has sent under a budget in a run: each tensor as it left last, noise and all."""
    found: dict[str, NDArray[np.floating]] = {}
    for path in sorted(home.run_folder(run).glob(f"sent-{learner}-[0-9]*.safetensors")):
        with safe_open(path, framework="numpy") as file:
            found |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return found


class RoundBudget:
    """One round of one learner under the policy's budget.

    Raises
    ------
    PrivacyError
        K661-K669 the policy's budget would not hold, K670 it does not bear this round, K671 and K672 as
        :func:`open_account`.
    """

    def __init__(self, state: PartnerState, ask: Ask, task: Task, plan: FederationPlan, privacy: PrivacyConfig) -> None:
        agreement = state.agreement
        check_policy(
            privacy,
            agreement.learners,
            split=agreement.split,
            metrics=sorted(agreement.metrics),
            minimum=agreement.minimum_participants,
            secure=agreement.secure,
        )
        self.state, self.task, self.privacy = state, task, privacy
        self.key = _key(ask, task)
        self.price = prices(privacy, agreement.learners, state.home.name)[ask.learner, task.round]
        self.noise = noise_of(plan, task.specs, self.price)
        self.account = open_account(state.home)
        self._path = state.home.run_folder(ask.run) / f"sent-{ask.learner}-{task.round:06d}.safetensors"
        self._asked = _asked(ask, task)
        if self.sent() is None:
            self.account.check(privacy, self.price.events, self.price.purpose)

    def sent(self) -> Contribution | None:
        """What was answered to the same question before and may be sent again; ``None``: nothing."""
        if self.privacy.mechanism == "distributed" or not self._path.exists():
            return None
        with safe_open(self._path, framework="numpy") as file:
            about = file.metadata() or {}
            if (about.get("asked"), about.get("charge")) != (self._asked, self._charged()):
                return None
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return Contribution(arrays, n_users=self.privacy.people)

    def domain(self) -> Domain:
        """The training events over everything that is listed, so that what is of the catalogue is nobody's events'.

        The split's own catalogue holds the items that somebody has taken.
        """
        train = self.state.domain
        items = self.state.vault.tables().items.sort("item_id")
        place = dict(zip(items["item_id"].to_list(), range(items.height), strict=True))
        row = np.array([place[item] for item in train.items["item_id"].to_list()], dtype=np.int32)
        events = Interactions(train.events.user, row[train.events.item], train.events.time)
        return Domain(train.name, items.select(pl.all()), train.user_ids, events)

    def release(self, contribution: Contribution) -> Contribution:
        """Charge, add the noise, keep what may leave, and return it.

        Raises
        ------
        PrivacyError
            K670 as the class, K673 the partner has more people than the policy's bound.
        """
        charge = self.account.charge(self.privacy, self.key, self.price.purpose, self.price.events, self.noise)
        source = NoiseSource(self.privacy.unsafe_seed, f"{self.state.home.name}/{self.key}")
        minimum = self.state.agreement.minimum_participants
        result = protected(self.privacy, contribution, self.task.specs, self.noise, minimum, source)
        about = {"asked": self._asked, "charge": charge.hash}
        arrays = {name: np.ascontiguousarray(array) for name, array in result.arrays.items()}
        write_atomically(self._path, save(arrays, about))
        return result

    def _charged(self) -> str | None:
        charge = self.account.find(self.key)
        return charge.hash if charge else None


def _key(ask: Ask, task: Task) -> str:
    return f"{ask.run}/{ask.learner}/{task.round}"


def _asked(ask: Ask, task: Task) -> str:
    """Fingerprint of a question: an equal one may get an equal answer."""
    digest = hashlib.sha256(repr((ask.agreement.sha256, task)).encode())
    for name, array in sorted(ask.releases[ask.learner].arrays.items()):
        digest.update(name.encode() + hashlib.sha256(np.ascontiguousarray(array).tobytes()).digest())
    return digest.hexdigest()


def _last_charge(egress_log: Path) -> str | None:
    """Hash of the last charge that the egress log names."""
    if not egress_log.exists():
        return None
    for line in reversed(egress_log.read_text(encoding="utf-8").splitlines()):
        if '"charge": {' in line:
            return str(json.loads(line)["charge"]["hash"])
    return None
