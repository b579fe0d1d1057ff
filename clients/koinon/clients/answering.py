"""From a server's message to what may cross the door."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from flwr.app import RecordDict
from numpy.typing import NDArray

from koinon.clients import door
from koinon.clients.home import Home
from koinon.clients.pinning import check_code
from koinon.clients.places import place
from koinon.clients.wire import read_ask
from koinon.errors import FederationError

if TYPE_CHECKING:
    from koinon.clients.work import Phase, Result

__all__ = ["answer"]


def answer(
    phase: Phase, content: RecordDict, node_config: Mapping[str, object], run_config: Mapping[str, object]
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
        with place(home.places):  # before the tensors are unpacked: whoever waits for its turn holds little memory
            result = _compute(phase, home, said, _unpacked(content))
        return door.cross(result, _policy(phase, home, said), home.egress_log)
    except (Exception, SystemExit) as error:
        home.note_error(error)
        failure = error
    return door.cross(failure, fallback, home.egress_log)


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


def _policy(phase: Phase, home: Home, said: bytes) -> door.Policy:
    ask = read_ask(said)
    return door.Policy(
        partner=home.name,
        purpose=" ".join([phase, *ask.releases]),
        round=ask.task.round if ask.task else 0,
        specs=ask.task.specs if ask.task else (),
        metrics=ask.agreement.metrics,
        catalogue_public=home.catalogue_public,
        keyed=ask.agreement.keyed_catalogues,
    )
