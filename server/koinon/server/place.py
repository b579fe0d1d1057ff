"""Where a federation's state lies, whether it was created to be joined or runs on one machine alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from koinon.errors import FederationError
from koinon.privacy.signing import Signer
from koinon.server.record import KEY_FILE, LEDGER_FILE
from koinon.server.state.ledger_book import LedgerBook
from koinon.server.state.release_book import ReleaseBook
from koinon.server.state.store import Store, open_store

__all__ = ["Place"]


@dataclass(frozen=True)
class Place:
    """A federation's folder.

    Attributes
    ----------
    folder
        The folder of a created federation, or the output folder of ``koinon federation run --federation FILE``.
    database
        The state's database: a file or a URL.
    key
        File of the key that signs.
    out
        Where releases and checkpoints lie.
    """

    folder: Path
    database: str | Path
    key: Path
    out: Path

    @classmethod
    def find(cls, folder: Path) -> Place:
        """Find out which of the two a folder is.

        Raises
        ------
        FederationError
            K784 it is neither.
        ConfigError
            K101-K103, K112 a created federation's files are wrong.
        """
        if (folder / "host.toml").is_file():
            from koinon.server.membership import FederationHome

            home = FederationHome(folder)
            database = home.host.state or home.folder / "state.db"
            return cls(home.folder, database, home.authority.folder / "ledger.key", home.out)
        if (folder / LEDGER_FILE).is_file():
            return cls(folder, folder / LEDGER_FILE, folder / KEY_FILE, folder)
        raise FederationError(
            "K784", f"{folder} holds no federation's state.", "Give a federation's folder, or a run's output folder."
        )

    @contextmanager
    def store(self) -> Iterator[Store]:
        """Open the database that is there."""
        store = open_store(self.database, create=False)
        try:
            yield store
        finally:
            store.close()

    @contextmanager
    def books(self) -> Iterator[tuple[LedgerBook, ReleaseBook]]:
        """Open ledger and releases.

        Raises
        ------
        FederationError
            K772 the key is missing or unreadable, K775 the ledger is not one that this key has signed.
        """
        if not self.key.is_file():
            raise FederationError("K772", f"The signing key {self.key} is not there.", "Restore a backup.")
        with self.store() as store:
            ledger = LedgerBook(store, Signer.open(self.key))
            first = ledger.entries(limit=1)
            yield ledger, ReleaseBook(self.out, first[0].subject if first else "", ledger)
