"""Which code may work on a partner's data: the Koinon that was installed when its operator accepted, and no other.

Two things could put other code there. An installation that was changed since: its hash is held against the pinned one
before a node starts and before every message is worked on. And the app that a server sends: a node runs what the
bundle holds, so :mod:`koinon.clients.supernode` holds it against the pinned one before anything of it is unpacked.

The hash covers source and data of the installed package as they lie on the disk (:func:`koinon.protos.installed.
code_sha256`). It guards against a wrong or changed installation, not against somebody who rules the partner's machine.
"""

from __future__ import annotations

from koinon.errors import PrivacyError
from koinon.protos.installed import code_sha256
from koinon.protos.thin_app import app_sha256, bundle_sha256

__all__ = ["app_sha256", "bundle_sha256", "check_app", "check_code", "code_sha256"]


def check_code(pinned: str) -> None:
    """Hold the installed Koinon against a pinned hash; ``""`` pins nothing.

    Raises
    ------
    PrivacyError
        K642 another Koinon is installed.
    """
    if not pinned:
        return
    installed = code_sha256()
    if installed != pinned:
        raise PrivacyError(
            "K642",
            f"The installed Koinon ({installed[:12]}) is not the one that was accepted ({pinned[:12]}).",
            "Install the accepted one again, or look the new one over and `koinon partner accept DIR`.",
        )


def check_app(offered: str) -> None:
    """Hold the app that a federation announces, or that was accepted once, against the one this Koinon knows.

    Raises
    ------
    PrivacyError
        K643 it is another one.
    """
    known = app_sha256()
    if offered != known:
        raise PrivacyError(
            "K643",
            f"The federation's app ({offered[:12]}) is not the one of this Koinon ({known[:12]}).",
            "Do not join: its bundle may hold other code. Ask the operator which Koinon the server runs.",
        )
