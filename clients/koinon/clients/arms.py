"""The arms a partner fits, and which of them it deploys.

=====================  ==========================================================================
``local``              the best tuned baseline on the partner's own events, without texts
``local_space``        EASE with the semantic prior: own events and the frozen space
``federated_…``        each federated learner, with the final release received
``federated``          what the partner deploys: one of the above, chosen on its validation users
=====================  ==========================================================================

A federated arm replaces the partner's own model only where its validation users say so: its mean gain, paired user by
user, must exceed :data:`CAUTION` standard errors of that gain. Where they do not, the partner keeps what it has, and a
federation cannot harm it. Among federated arms that are equal by this measure the one that the federation lists last is
taken.

So it goes from release to release too: what is deployed stays where it is ahead of the new choice by as much, and a
release that harms the partner (:func:`koinon.clients.standby.harms`) is not chosen.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from koinon.clients.drift import drifted
from koinon.clients.partner_state import PartnerState
from koinon.clients.standby import CAUTION, Standby, harms, paired
from koinon.clients.wire import Ask
from koinon.config import Config, write_atomically
from koinon.errors import RecommenderError
from koinon.evaluation import evaluate
from koinon.recommenders import store
from koinon.recommenders.conventional import Popularity, SemanticEASE
from koinon.recommenders.protocol import Recommender
from koinon.recommenders.tuning import LOCAL, tune, tune_local

__all__ = ["CAUTION", "Choice", "choose", "fit_arms"]

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Choice:
    """Which arm a partner deploys as ``federated``, and why.

    Attributes
    ----------
    arm
        The arm.
    instead_of
        The partner's own best arm, which it is held against.
    gain, error
        Mean of the best federated arm's paired gain in validation NDCG@10 and its standard error.
    users
        Validation users asked.
    """

    arm: str
    instead_of: str
    gain: float
    error: float
    users: int


def choose(own: str, federated: Mapping[str, Values], own_values: Values) -> Choice:
    """Choose between a partner's own arm and the federated ones.

    The federated arm with the highest mean stands for them, or a later one that it is not clearly ahead of.

    Parameters
    ----------
    own
        The partner's own arm.
    federated
        Per-user validation values ``float64[users]`` of the federated arms.
    own_values
        Those of its own arm, same users in the same order.
    """
    users = len(own_values)
    if not federated or users < 2:
        return Choice(own, own, 0.0, 0.0, users)
    best = max(federated, key=lambda arm: float(federated[arm].mean()))
    # the learners that the federation lists last are those it trusts most; a lead within the noise does not count
    best = next(arm for arm in reversed(list(federated)) if arm == best or not _ahead(federated[best], federated[arm]))
    gain, error = paired(federated[best], own_values)
    return Choice(best if _ahead(federated[best], own_values) else own, own, gain, error, users)


def _ahead(values: Values, others: Values) -> bool:
    gain, error = paired(values, others)
    return gain > 0 and gain > CAUTION * error


def fit_arms(state: PartnerState, ask: Ask) -> dict[str, float]:
    """Fit every arm, choose on validation, keep all in the partner's folder.

    ``local`` and ``local_space`` are kept from an earlier run while vault, split and encoder stay as they were.

    Returns
    -------
    dict
        ``ndcg@10/<arm>``: means over the partner's main validation users (``federated``: of what it deploys);
        ``harm/<learner>``: 1 where the learner's release harms this partner, else 0; ``drift``: 1 where its data have
        drifted, else 0. Those that the policy names may leave.
    """
    standby = Standby(state.home.models)
    arms = _own_arms(state)
    own = "local_space" if "local_space" in arms else "local"
    data = _data(state)
    federated: dict[str, Values] = {}
    harmful: dict[str, bool] = {}
    for name in ask.releases:
        standby.make_room(name, ask.run)
        federated[name] = _federated_arm(name, state, ask)
        harmful[name] = harms(federated[name], arms[own], data, standby.good(name))
        gain, error = paired(federated[name], arms[own]) if len(arms[own]) > 1 else (0.0, 0.0)
        standby.judged(name, gain, error, harmful=harmful[name])
    choice = choose(own, {name: values for name, values in federated.items() if not harmful[name]}, arms[own])
    deployed = (arms | federated)[choice.arm]
    made_of = {
        "folder": choice.arm,
        "release": ask.manifests.get(choice.arm, ""),
        "data": data,
        # what serving needs to put the model on its feet again, beside the choice
        "encoder": state.agreement.encoder,
        "split": json.loads(state.agreement.split_json),
        "vault": state.vault.fingerprint(),
    }
    kept = _still_ahead(standby, data, deployed)
    if kept is None:
        standby.deploy(asdict(choice) | made_of)
    else:
        deployed = kept
    arms |= federated
    arms["federated"] = deployed
    found = {f"ndcg@10/{arm}": float(values.mean()) for arm, values in arms.items() if len(values)}
    found |= {f"harm/{name}": float(harm) for name, harm in harmful.items()}
    return found | {"drift": float(drifted(state, ask.run))}


def _still_ahead(standby: Standby, data: str, chosen: Values) -> Values | None:
    """Values of an earlier release's deployed model, if on the same data it is ahead of what was chosen now."""
    said = standby.deployed()
    if not str(said.get("folder", "")).startswith("good/") or said.get("data") != data:
        return None
    fit = standby.good(str(said["arm"]))
    if fit is None or fit.made_of.get("data") != data or len(fit.values) != len(chosen) or len(chosen) < 2:
        return None
    return fit.values if _ahead(fit.values, chosen) else None


def _data(state: PartnerState) -> str:
    """Fingerprint of what a partner fits and validates on."""
    space = state.space.fingerprint if state.space is not None else ""
    return hashlib.sha256(f"{state.vault.fingerprint()}\n{state.agreement.split_json}\n{space}".encode()).hexdigest()


def _own_arms(state: PartnerState) -> dict[str, Values]:
    """Fit what needs no federation, tuned on validation; or take what an earlier run has kept."""
    names = ("local",) if state.space is None else ("local", "local_space")
    made_of = {
        "vault": state.vault.fingerprint(),
        "split": state.agreement.split_json,
        "encoder": state.space.fingerprint if state.space is not None else "",
        "seed": state.agreement.seed,
        "koinon": version("koinon"),
    }
    kept = {name: _kept(state.home.models / name, made_of) for name in names}
    if all(values is not None for values in kept.values()):
        return {name: values for name, values in kept.items() if values is not None}
    rng = np.random.default_rng(state.agreement.seed)
    recommenders: dict[str, Recommender] = {"local": Popularity(), "local_space": SemanticEASE()}
    with _stated_settings_where_nobody_can_be_asked():
        if state.space is None:
            recommenders["local"] = tune(LOCAL, state.split, None, rng=rng).build()
        else:
            recommenders = {n: chosen.build() for n, chosen in tune_local(state.split, state.space, rng=rng).items()}
    found = {}
    for name in names:
        recommenders[name].fit(state.domain, state.space, rng=rng)
        found[name] = _keep(state.home.models / name, recommenders[name], state, made_of)
    return found


@contextmanager
def _stated_settings_where_nobody_can_be_asked() -> Iterator[None]:
    """Go on with stated settings where a partner has no validation user (K407) to tune on."""
    try:
        yield
    except RecommenderError as error:
        if error.code != "K407":
            raise


def _federated_arm(name: str, state: PartnerState, ask: Ask) -> Values:
    from koinon.clients.work import final_learner

    learner = final_learner(state, ask, name)
    rng = np.random.default_rng(state.agreement.seed)
    if hasattr(learner, "tune"):  # its private settings: how much of the others' part, ridges, priors
        with _stated_settings_where_nobody_can_be_asked():
            learner.tune(state.split, state.space, rng=rng, start=_own_settings(state))
    learner.fit(state.domain, state.space, rng=rng)
    made_of = {
        "run": ask.run,
        "release": ask.releases[name].number,
        "manifest": ask.manifests.get(name, ""),
        "data": _data(state),
    }
    return _keep(state.home.models / name, learner, state, made_of)


def _own_settings(state: PartnerState) -> Config | None:
    """Settings of the partner's own arm: where a federated one starts its search."""
    if state.space is None:
        return None
    kept = store.load(state.home.models / "local_space", state.domain, state.space)
    return cast(store.Storable, kept).config


def _keep(folder: Path, recommender: Recommender, state: PartnerState, made_of: Mapping[str, object]) -> Values:
    """Validate, save, and note what it was made of; the note is written last, so that it vouches for the rest."""
    began = time.monotonic()
    found = evaluate(recommender, state.domain, state.split.validation, slices=("all",)).values()
    (folder / "arm.json").unlink(missing_ok=True)
    store.save(recommender, folder, state.domain, state.space)
    note = {"made_of": made_of, "validation": found.tolist(), "seconds": round(time.monotonic() - began, 3)}
    write_atomically(folder / "arm.json", json.dumps(note))
    return found


def _kept(folder: Path, made_of: Mapping[str, object]) -> Values | None:
    try:
        note = json.loads((folder / "arm.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return np.array(note["validation"], dtype=np.float64) if note["made_of"] == made_of else None
