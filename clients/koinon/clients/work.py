"""What a partner computes when it is asked: the one entry for the simulation's actors and for the partner's worker.

Nothing here sends anything. What is returned goes to the door.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from koinon.clients.budget import RoundBudget, sent_by
from koinon.clients.door import Adopted
from koinon.clients.home import Home
from koinon.clients.partner_state import Partners, PartnerState
from koinon.clients.vault_pin import check_vault, pin_vault
from koinon.clients.wire import Ask, read_ask
from koinon.config import write_atomically
from koinon.data import Domain
from koinon.errors import FederationError, PrivacyError
from koinon.recommenders.federated import registry
from koinon.recommenders.federated.budgeting import exact
from koinon.recommenders.protocol import Catalogue, Contribution, FederatedRecommender, Task

__all__ = ["Phase", "perform"]

Phase = Literal["catalogue", "contribute", "adopt"]
Result = Catalogue | Contribution | Adopted

_KEPT_ROUNDS = 2
"""A server that was killed after a round may ask for it again: the state before it is still there."""
_VALIDATION_ROWS = 2000
"""People asked between rounds, at most."""


def perform(
    phase: Phase, home: Home, said: bytes, tensors: Mapping[str, NDArray[np.generic]], partners: Partners
) -> Result:
    """Do what a server's message asks.

    Parameters
    ----------
    phase
        ``catalogue``: tell of the items. ``contribute``: work on private data for one round. ``adopt``: fit with the
        final releases, choose on validation, keep the models.
    home
        Whose data it is.
    said, tensors
        The message (see :func:`koinon.clients.wire.read_ask`).
    partners
        What this process keeps warm.

    Raises
    ------
    PrivacyError
        K611 the server's policy is not the one accepted, K612 a task asks for other tensors than the policy implies.
    FederationError
        K726 the vault changed while the federation trained.
    KoinonError
        What the data, the learner or the disk have to say; only its code leaves.
    """
    ask = read_ask(said, tensors)
    ask.check(home.accepted)
    started = time.monotonic()
    with home.timed(phase=phase, round=ask.task.round if ask.task else 0, learner="+".join(ask.releases)):
        state = partners.open(home, ask.agreement)
        if phase == "catalogue":
            pin_vault(home, ask.run, state.vault.fingerprint())
        elif phase == "contribute":
            check_vault(home, ask.run, state.vault.fingerprint())
        result = _perform(phase, state, ask)
    if isinstance(result, Catalogue) or "work_seconds" not in ask.agreement.metrics:
        return result
    return replace(result, metrics={**result.metrics, "work_seconds": round(time.monotonic() - started, 3)})


def _perform(phase: Phase, state: PartnerState, ask: Ask) -> Result:
    if phase == "catalogue":
        return state.catalogue()
    if phase == "contribute":
        return _contribute(state, ask)
    from koinon.clients.arms import fit_arms

    return Adopted(_declared(fit_arms(state, ask), ask))


def _contribute(state: PartnerState, ask: Ask) -> Contribution:
    if ask.task is None:
        raise FederationError("K720", "A contribution was asked for without a task.", "Are all on one version?")
    name, release, task = ask.learner, ask.releases[ask.learner], ask.task
    settings = state.agreement.learners.get(name)
    if settings is None:
        raise PrivacyError("K612", f"The policy does not know the learner {name}.", "Ask the operator.")
    # what may leave follows from the policy; a server cannot widen it by asking for more
    plan = registry.plan(name, settings)
    if plan.task(release, task.round).specs != task.specs:
        raise PrivacyError("K612", f"{name} asks for other tensors than its policy implies.", "Ask the operator.")
    if (privacy := state.agreement.privacy) is not None:
        return _within(RoundBudget(state, ask, task, plan, privacy), state, ask, settings)
    learner = registry.recommender(name, settings, match_key=state.key, partner=state)
    contribution = _worked(learner, state, ask, state.domain, task)
    metrics = {**contribution.metrics, **_validated(learner, state, ask)}
    return replace(contribution, metrics=_declared(metrics, ask))


def _within(budget: RoundBudget, state: PartnerState, ask: Ask, settings: registry.Settings) -> Contribution:
    """Answer under a privacy budget: what was sent before, or exact sums that are charged and noised."""
    sent = budget.sent()
    if sent is not None:
        return sent
    learner = registry.recommender(ask.learner, settings, match_key=state.key, partner=state)
    return budget.release(_worked(learner, state, ask, budget.domain(), exact(budget.task)))


def _worked(learner: FederatedRecommender, state: PartnerState, ask: Ask, domain: Domain, task: Task) -> Contribution:
    kept = _Kept(state.home.run_folder(ask.run), ask.learner)
    kept.load(learner, task.round - 1, state)
    contribution = learner.contribute(domain, ask.releases[ask.learner], task)
    kept.save(learner, task.round)
    return contribution


def _validated(learner: FederatedRecommender, state: PartnerState, ask: Ask) -> dict[str, float]:
    """The partner's own validation figure, of a learner that can score between rounds."""
    if "ndcg@10" not in ask.agreement.metrics or not getattr(learner, "scores_between_rounds", False):
        return {}
    from koinon.recommenders.tuning import Validator

    rng = np.random.default_rng(state.agreement.seed)
    validator = Validator(state.domain, state.split.validation, "ndcg@10", rng, _VALIDATION_ROWS)
    return {"ndcg@10": float(validator.values(learner.score(validator.requests)).mean())}


def _declared(metrics: Mapping[str, float], ask: Ask) -> dict[str, float]:
    """Figures that the policy does not name stay at home."""
    return {name: float(value) for name, value in metrics.items() if name in ask.agreement.metrics}


class _Kept:
    """A learner's private state between the rounds of a run, in the partner's own folder."""

    def __init__(self, folder: Path, learner: str) -> None:
        self.folder = folder
        self.learner = learner

    def load(self, learner: FederatedRecommender, round_: int, state: PartnerState) -> None:
        """Hand back the newest state that is not younger than a round; a newcomer starts afresh."""
        if hasattr(learner, "attach"):
            learner.attach(state.domain, state.space)
        found = [path for path in self._files() if self._round(path) <= round_]
        if not found or not hasattr(learner, "restore"):
            return
        with safe_open(found[-1], framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        learner.restore(arrays, state.domain, state.space)

    def save(self, learner: FederatedRecommender, round_: int) -> None:
        """Write the state after a round, whole or not at all; other runs' and older rounds' make room."""
        if not hasattr(learner, "state"):
            return
        for other in self.folder.parent.glob("*"):
            if other != self.folder:
                shutil.rmtree(other, ignore_errors=True)
        arrays = {name: np.ascontiguousarray(array) for name, array in learner.state().items()}
        write_atomically(self.folder / f"{self.learner}-{round_:06d}.safetensors", save(arrays))
        for old in [path for path in self._files() if self._round(path) <= round_ - _KEPT_ROUNDS]:
            old.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob(f"{self.learner}-[0-9]*.safetensors"))

    @staticmethod
    def _round(path: Path) -> int:
        return int(path.stem.rpartition("-")[2])


def final_learner(state: PartnerState, ask: Ask, name: str) -> FederatedRecommender:
    """Return a learner as it stands after the last round, with its final release received."""
    release = ask.releases[name]
    learner = registry.recommender(name, state.agreement.learners[name], match_key=state.key)
    _Kept(state.home.run_folder(ask.run), name).load(learner, release.number, state)
    if hasattr(learner, "sent"):
        learner.sent = sent_by(state.home, ask.run, name)
    learner.receive(release)
    return learner
