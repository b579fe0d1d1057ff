"""From a server's message to what may cross the door."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np
from flwr.app import RecordDict
from numpy.typing import NDArray

from koinon.clients import door
from koinon.clients.home import Home
from koinon.clients.pinning import check_code
from koinon.clients.places import place
from koinon.clients.wire import read_ask
from koinon.errors import FederationError, PrivacyError

if TYPE_CHECKING:
    from koinon.clients.masking import Masking
    from koinon.clients.wire import Ask, SecureStep
    from koinon.clients.work import Phase, Result

__all__ = ["SecurePhase", "answer"]

SecurePhase = Literal["keys", "share", "agree", "unmask"]
"""Steps of a secure sum beside the contribution itself."""


def answer(
    phase: Phase | SecurePhase | Literal["withdrawn"],
    content: RecordDict,
    node_config: Mapping[str, object],
    run_config: Mapping[str, object],
) -> RecordDict:
    """Compute what is asked and pass it through the door; whatever goes wrong passes as its code.

    Raises
    ------
    KoinonError
        Only where the door itself cannot be used: K722 no partner, K609 no log.
    """
    home = Home.find(node_config, run_config)
    fallback = door.Policy(partner=home.name, purpose=phase)
    try:
        check_code(home.code)
        said = content.config_records["instruction"]["instruction"]
        if not isinstance(said, bytes):
            raise FederationError("K720", "The server's message cannot be read.", "Are all on one version?")
        if home.ledger_key and phase in ("contribute", "adopt", "keys", "share", "withdrawn"):
            from koinon.clients.trust import check_server

            check_server(home, said, _news(content), adopting=phase == "adopt")
        if phase in ("contribute", "adopt", "withdrawn"):
            from koinon.clients.trust import heed

            heed(home, _news(content))
        if phase == "withdrawn":
            return door.cross(door.Adopted(), fallback, home.egress_log)
        if phase == "keys" or phase == "share" or phase == "agree" or phase == "unmask":
            return _step(phase, home, read_ask(said))
        with place(home.places):  # before the tensors are unpacked: whoever waits for its turn holds little memory
            result = _compute(phase, home, said, _unpacked(content))
        ask = read_ask(said)
        return door.cross(result, _policy(phase, home, ask), home.egress_log, beside=_beside(phase, home, ask))
    except (Exception, SystemExit) as error:
        home.note_error(error)
        failure = error
    return door.cross(failure, fallback, home.egress_log)


def _news(content: RecordDict) -> bytes:
    news = content.config_records["instruction"].get("ledger", b"")
    return news if isinstance(news, bytes) else b""


def _unpacked(content: RecordDict) -> dict[str, NDArray[np.generic]]:
    """Take the tensors out of a message, one after the other, so that they are not held twice."""
    packed = content.array_records["tensors"]
    return {name: packed.pop(name).numpy() for name in list(packed)}


def _compute(phase: Phase, home: Home, said: bytes, tensors: dict[str, NDArray[np.generic]]) -> Result:
    if home.worker:
        from koinon.clients.worker import ask_worker

        return ask_worker(phase, home, said, tensors)
    from koinon.clients.actor import PARTNERS
    from koinon.clients.work import perform

    return perform(phase, home, said, tensors, PARTNERS)


def _step(phase: SecurePhase, home: Home, ask: Ask) -> RecordDict:
    """Take a step of a secure sum, and through the door with it."""
    ask.check(home.accepted)
    masking = _masking(home, ask, ask.secure)
    step = {"keys": masking.keys, "share": masking.share, "agree": masking.agree, "unmask": masking.unmask}[phase]
    said = step()
    policy = door.Policy(home.name, f"{phase} {masking.step.learner}", masking.step.round)
    beside = _beside(phase, home, ask)
    return door.cross(door.SecureMessage(phase, said), policy, home.egress_log, beside=beside)


def _beside(phase: Phase | SecurePhase, home: Home, ask: Ask) -> door.SecureMessage | None:
    """The step of the next round's secure sum that is to be taken beside this one."""
    if ask.next is None:
        return None
    masking = _masking(home, ask, ask.next)
    if phase == "contribute":
        return door.SecureMessage("keys", masking.keys())
    return door.SecureMessage("share", masking.share())


def _masking(home: Home, ask: Ask, step: SecureStep | None) -> Masking:
    if step is None:
        raise PrivacyError("K613", "The policy says that sums are secure, the server does not.", "Ask the operator.")
    from koinon.clients.masking import Masking

    return Masking(home, ask.run, ask.agreement, step)


def _policy(phase: Phase, home: Home, ask: Ask) -> door.Policy:
    masked = ask.task is not None and ask.agreement.secure
    charge = None
    if ask.agreement.privacy_json and phase == "contribute":
        from koinon.clients.budget import charge_for

        charge = charge_for(home, ask)
    return door.Policy(
        partner=home.name,
        purpose=" ".join([phase, *ask.releases]),
        round=ask.task.round if ask.task else 0,
        specs=ask.task.specs if ask.task else (),
        metrics=ask.agreement.metrics,
        catalogue_public=home.catalogue_public,
        keyed=ask.agreement.keyed_catalogues,
        mask=_masking(home, ask, ask.secure).mask if masked else None,
        budget=bool(ask.agreement.privacy_json),
        charge=charge,
    )
