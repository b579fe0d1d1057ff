"""A partner's own folder, as its side of the federation uses it.

::

    <folder>/partner.toml          who the partner is (koinon.data)
    <folder>/vault/                its data (koinon.data)
    <folder>/match.key             the partners' secret for keyed hashes, where the federation uses them
    <folder>/federation/egress.jsonl   one line for everything that ever left
    <folder>/federation/errors.log     what went wrong, in full; it stays here
    <folder>/federation/work.jsonl     when this partner computed what
    <folder>/federation/told.json      the tables that this run's catalogue was told from
    <folder>/federation/ledger.jsonl   its copy of the federation's ledger
    <folder>/federation/runs/<run>/    private state between the rounds of a run
    <folder>/models/<arm>/             fitted models
"""

from __future__ import annotations

import json
import os
import time
import tomllib
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from koinon.errors import FederationError

__all__ = ["Home"]


@dataclass(frozen=True)
class Home:
    """Where a partner lives, and what its operator has agreed to.

    Attributes
    ----------
    folder
        The partner's folder.
    name
        The partner's name in the federation.
    accepted
        SHA-256 of the policy that the partner's operator has accepted.
    places
        A folder of locks that all partners of one machine share, or ``None``: whoever computes holds one of them.
    worker
        Whether a worker process of the partner computes (one SuperNode per partner), or this process (simulation).
    code
        SHA-256 of the installed Koinon that the partner's operator has accepted; ``""`` where none is pinned.
    ledger_key
        The server's public key (base64) that must have signed ledger and releases; ``""`` where none is pinned.
    """

    folder: Path
    name: str
    accepted: str
    places: Path | None = None
    worker: bool = False
    code: str = ""
    ledger_key: str = ""

    @classmethod
    def find(cls, node_config: Mapping[str, object], run_config: Mapping[str, object]) -> Home:
        """Find the partner of a Flower node.

        A SuperNode is started by the partner with its own ``folder`` (and nothing the server says can change that); a
        node of the simulation looks its number up in the file of the simulated partners.

        Raises
        ------
        FederationError
            K722 the node was not told which partner it is.
        """
        try:
            if "folder" in node_config:
                described = dict(node_config)
            elif "partition-id" in node_config:
                listed = json.loads(Path(str(run_config["simulated"])).read_text(encoding="utf-8"))
                described = listed[int(str(node_config["partition-id"]))]
            else:
                raise KeyError("folder")
            places = described.get("places")
            return cls(
                folder=Path(str(described["folder"])),
                name=str(described["partner"]),
                accepted=str(described["policy"]),
                places=Path(str(places)) if places else None,
                worker=bool(described.get("worker", False)),
                code=str(described.get("code", "")),
                ledger_key=str(described.get("ledger_key", "")),
            )
        except (KeyError, IndexError, OSError, ValueError) as error:
            raise FederationError(
                "K722", "This node does not know which partner it is.", "Start it with `koinon federation run`."
            ) from error

    @property
    def egress_log(self) -> Path:
        """Where every crossing is logged."""
        return self.folder / "federation" / "egress.jsonl"

    @property
    def catalogue_public(self) -> bool:
        """Whether ``partner.toml`` declares the catalogue public; anything unclear means that it is not."""
        try:
            declared = tomllib.loads((self.folder / "partner.toml").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return declared.get("catalogue") == "public"

    @property
    def models(self) -> Path:
        """Where fitted models are kept."""
        return self.folder / "models"

    def run_folder(self, run: str) -> Path:
        """Where a run keeps this partner's private state."""
        if not run.isalnum():
            raise FederationError("K720", "The run's name is not one.", "Are all on one version?")
        return self.folder / "federation" / "runs" / run

    def note_error(self, error: BaseException) -> None:
        """Write an error down in full, for the partner's own eyes."""
        with self._append("errors.log") as handle:
            lines = "".join(traceback.format_exception(error))
            os.write(handle, f"--- {time.strftime('%Y-%m-%dT%H:%M:%S%z')}\n{lines}".encode())

    @contextmanager
    def timed(self, **what: object) -> Iterator[None]:
        """Note when a piece of work began and ended."""
        began = time.time()
        try:
            yield
        finally:
            with self._append("work.jsonl") as handle:
                os.write(handle, (json.dumps({**what, "began": began, "ended": time.time()}) + "\n").encode())

    @contextmanager
    def _append(self, name: str) -> Iterator[int]:
        target = self.folder / "federation" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(target, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            yield handle
        finally:
            os.close(handle)
