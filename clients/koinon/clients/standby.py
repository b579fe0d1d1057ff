"""What a partner has deployed, and the models of the last good release, kept ready to go back to.

::

    models/<arm>/            the newest fit of an arm
    models/good/<learner>/   the fit of an earlier release that was neither withdrawn nor harmful here
    models/deployed.json     which of these folders answers

``deployed.json`` is replaced in one step and always names a folder that is whole: before a new release's fit takes the
place of a deployed one, that one is copied to ``good`` and ``deployed.json`` names the copy.

A new release **harms** a partner if its arm is clearly worse on the partner's validation users than the last good
one's: by more than :data:`HARM_ERRORS` standard errors and by more than :data:`HARM_SHARE` of the last good one's
NDCG@10. On unchanged data both are compared user by user. Where the data have changed since, users cannot be paired,
and each one's gain over the partner's own arm, fitted and validated on the same data as it, is compared instead.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from koinon.config import write_atomically

__all__ = ["CAUTION", "HARM_ERRORS", "HARM_SHARE", "HARM_USERS", "Fit", "Standby", "harms", "paired"]

CAUTION = 0.5
"""Standard errors of its paired validation gain by which a federated arm must be ahead."""
HARM_ERRORS = 3.0
"""Standard errors: chance alone gets there once in 740 times."""
HARM_SHARE = 0.05
"""Of the last good release's NDCG@10; a smaller loss is no harm, however sure."""
HARM_USERS = 30
"""With fewer validation users a partner cannot tell."""

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
    """A federated learner's model as it was fitted with one release.

    Attributes
    ----------
    folder
        Within ``models``.
    made_of
        ``run``; ``release``, its round; ``manifest``, the hash of the server's statement; ``data``, of vault and split.
    values
        NDCG@10 of each validation user, ``float64[users]``.
    gain, error
        Mean of the gain over the partner's own arm then, and its standard error.
    spoiled
        Whether it was harmful here, or its release withdrawn.
    """

    folder: str
    made_of: Mapping[str, Any]
    values: Values
    gain: float
    error: float
    spoiled: bool


def paired(values: Values, others: Values) -> tuple[float, float]:
    """Mean of the difference, user by user, and its standard error."""
    difference = values - others
    return float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(len(difference)))


def harms(values: Values, own: Values, data: str, good: Fit | None) -> bool:
    """Whether a new release's arm is clearly worse for this partner than the last good one's.

    Parameters
    ----------
    values, own
        Per-user validation values of the new arm and of the partner's own, same users in the same order.
    data
        Of what the partner fits and validates on now.
    good
        The last good release's; ``None``: nothing can be said.
    """
    if good is None or len(values) < HARM_USERS:
        return False
    if good.made_of.get("data") == data and len(good.values) == len(values):
        loss, error = paired(good.values, values)
        level = float(good.values.mean())
    else:
        gain, error = paired(values, own)
        loss, error = good.gain - gain, float(np.hypot(error, good.error))
        level = float(own.mean()) + good.gain
    return loss > HARM_ERRORS * error and loss > HARM_SHARE * level


class Standby:
    """A partner's ``models`` folder over releases.

    Parameters
    ----------
    models
        The folder.
    """

    def __init__(self, models: Path) -> None:
        self.models = models

    def deployed(self) -> dict[str, Any]:
        """What ``deployed.json`` says; empty where nothing is deployed."""
        try:
            said = json.loads((self.models / "deployed.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return said if isinstance(said, dict) else {}

    def deploy(self, said: Mapping[str, Any]) -> None:
        """Write ``deployed.json``, in one step."""
        write_atomically(self.models / "deployed.json", json.dumps(dict(said), indent=2) + "\n")

    def fit(self, folder: str) -> Fit | None:
        """Return what is known of a learner's model; ``None`` where there is none."""
        try:
            note = json.loads((self.models / folder / "arm.json").read_text(encoding="utf-8"))
            values = np.array(note["validation"], dtype=np.float64)
            spoiled = bool(note.get("spoiled", False))
            return Fit(folder, note["made_of"], values, float(note["gain"]), float(note["error"]), spoiled)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def good(self, learner: str) -> Fit | None:
        """The model of a learner's last good release."""
        found = self.fit(f"good/{learner}")
        return None if found is None or found.spoiled else found

    def judged(self, learner: str, gain: float, error: float, *, harmful: bool) -> None:
        """Note of a learner's newest fit how far it is ahead of the own arm, and whether it is harmful."""
        self._note(learner, gain=gain, error=error, spoiled=harmful)

    def make_room(self, learner: str, run: str) -> None:
        """Before a run's fit of a learner is written: keep the one that is there, if it is another run's and good.

        While an older good fit is deployed, because a newer one was not better, that one stays the good one.
        """
        fit, deployed = self.fit(learner), self.deployed()
        good = f"good/{learner}"
        if fit is None or fit.spoiled or fit.made_of.get("run") == run or deployed.get("folder") == good:
            return
        half, old = self.models / f".{learner}.new", self.models / f".{learner}.old"
        for left in (half, old):
            shutil.rmtree(left, ignore_errors=True)
        shutil.copytree(self.models / learner, half)
        target = self.models / good
        target.parent.mkdir(exist_ok=True)
        if target.exists():
            target.rename(old)
        half.rename(target)
        shutil.rmtree(old, ignore_errors=True)
        if deployed.get("folder", deployed.get("arm")) == learner:
            self.deploy({**deployed, "folder": good})

    def go_back(self, counts: Callable[[str], bool]) -> bool:
        """Let go of every model whose release does not count any more; whether another one is deployed now.

        Parameters
        ----------
        counts
            Of the hash of a release's manifest: whether the release counts.
        """
        spoiled = set()
        for note in [*self.models.glob("*/arm.json"), *self.models.glob("good/*/arm.json")]:
            folder = note.parent.relative_to(self.models).as_posix()
            fit = self.fit(folder)
            manifest = str(fit.made_of.get("manifest", "")) if fit else ""
            if manifest and not counts(manifest):
                self._note(folder, spoiled=True)
                spoiled.add(folder)
        deployed = self.deployed()
        if deployed.get("folder", deployed.get("arm")) not in spoiled:
            return False
        good = self.good(str(deployed["arm"]))
        back_to: dict[str, Any] = {"arm": deployed["instead_of"], "folder": deployed["instead_of"], "release": ""}
        # a model of other data cannot answer on these; the partner's own arm can always
        if good is not None and good.made_of.get("data") == deployed.get("data") and good.gain > CAUTION * good.error:
            back_to = {"arm": deployed["arm"], "folder": good.folder, "release": good.made_of["manifest"]}
        self.deploy({**deployed, **back_to, "went_back_from": deployed.get("release", "")})
        return True

    def _note(self, folder: str, **said: object) -> None:
        path = self.models / folder / "arm.json"
        note = json.loads(path.read_text(encoding="utf-8"))
        write_atomically(path, json.dumps(note | said))
