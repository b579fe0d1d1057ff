"""What a coordinator puts on record: its runs, rounds and releases, and how much of it each partner has been shown.

Every order brings a partner the ledger's entries since those it has already taken over, so that each partner keeps a
copy that the server cannot change any more. On one machine ledger and key lie in the output folder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from koinon.privacy.ledger.kinds import Kind
from koinon.privacy.manifest import ReleasedBudget
from koinon.privacy.signing import Signer
from koinon.recommenders.federated.budgeting import spent_in
from koinon.server.checkpoints import Checkpoint, RunState
from koinon.server.federation import FederationConfig
from koinon.server.operation.watch import Alarm
from koinon.server.state.ledger_book import LedgerBook
from koinon.server.state.release_book import Listed, ReleaseBook, Signed
from koinon.server.state.store import open_store

__all__ = ["KEY_FILE", "LEDGER_FILE", "Record"]

LEDGER_FILE = "ledger.sqlite"
KEY_FILE = "server.key"

_MOST = 10_000
"""Entries in one message, about 5 MB; a partner that has missed more catches up over several."""
_BEHIND = "K779"
"""A partner's answer when its copy ends before what it was shown."""


class Record:
    """A federation's record, as its coordinator writes it.

    Parameters
    ----------
    book
        The ledger.
    out
        The federation's output folder, with its releases.
    config
        The federation.
    """

    def __init__(self, book: LedgerBook, out: Path, config: FederationConfig) -> None:
        self.book = book
        self.federation = config.name
        self.anonymous = config.anonymous
        self._config = config
        self.releases = ReleaseBook(
            out, config.name, book, encoder_sha256=config.encoder_sha256, anonymous=config.anonymous
        )
        self._sent: dict[str, int] = {}
        self._heard: dict[str, int] = {}

    @classmethod
    def open(cls, out: Path, config: FederationConfig, database: str | Path | None = None) -> Record:
        """Open the record of a federation; a new one begins with the federation and its key.

        Parameters
        ----------
        out
            The output folder; it holds the key (``server.key``).
        config
            The federation.
        database
            File or URL of the server's database; ``None``: ``ledger.sqlite`` in the output folder.

        Raises
        ------
        FederationError
            K770, K771 the database; K772 the key; K775 a ledger that this server has not made.
        """
        book = LedgerBook(open_store(database or out / LEDGER_FILE), Signer.open(out / KEY_FILE))
        book.begin(config.name, config.policy_sha256())
        return cls(book, out, config)

    def run_started(self, state: RunState, partners: int, *, resumed: bool) -> None:
        """A run begins or goes on."""
        self.book.append(
            Kind.RUN_STARTED,
            self.federation,
            run=state.run,
            policy_sha256=state.policy_sha256,
            partners=partners,
            resumed=resumed,
        )

    def round_finished(self, learner: str, state: RunState, checkpoint: Checkpoint) -> None:
        """A learner's round is finished and saved; one that is on record already is not put there twice.

        What partners have taken over of the ledger is noted with it.
        """
        round_ = checkpoint.release.number
        last = self.book.last(Kind.ROUND_FINISHED, learner)
        if round_ == 0 or (last and last.body["run"] == state.run and last.body["round"] >= round_):
            return
        with self.book.store.session() as session:
            self.book.append_in(
                session,
                Kind.ROUND_FINISHED,
                learner,
                run=state.run,
                round=round_,
                participants=len(checkpoint.participants),
                names=None if self.anonymous else list(checkpoint.participants),
                left_out=dict(Counter(checkpoint.left_out.values())),
            )
            self.book.note_shown(session, self._heard)
        self._heard.clear()

    def stood_out(self, learner: str, state: RunState, round_: int, codes: Mapping[str, set[str]]) -> None:
        """Who was refused, or looked unlike the others, in a round: by partner the codes.

        Nothing where the policy keeps it from being known who took part.
        """
        for partner, said in sorted(codes.items()) if not self.anonymous else ():
            for code in sorted(said):
                self.book.append(Kind.ANOMALY, partner, run=state.run, learner=learner, round=round_, code=code)

    def alarmed(self, alarm: Alarm, state: RunState) -> None:
        """What a run has brought a partner stands out."""
        subject = self.federation if self.anonymous else alarm.partner
        self.book.append(Kind.ANOMALY, subject, run=state.run, learner=alarm.learner, code=alarm.code)

    def published(self, learner: str, checkpoint: Checkpoint, state: RunState) -> Listed:
        """Publish a learner's last round as a signed release."""
        return self.releases.publish(learner, checkpoint, state, privacy=self._budget(state))

    def signed(self, learner: str, checkpoint: Checkpoint, state: RunState) -> Signed:
        """Sign a state between two rounds, as it is handed to the partners."""
        return self.releases.sign(learner, checkpoint, state)

    def _budget(self, state: RunState) -> ReleasedBudget | None:
        """What the rounds on record cost a person; those of runs under another policy were charged by that one."""
        privacy = self._config.privacy
        if privacy is None:
            return None
        started = self.book.entries(kind=Kind.RUN_STARTED)
        runs = {str(entry.body["run"]) for entry in started if entry.body["policy_sha256"] == state.policy_sha256}
        finished = [
            (entry.subject, int(entry.body["round"]))
            for entry in self.book.entries(kind=Kind.ROUND_FINISHED)
            if entry.body["run"] in runs
        ]
        learners = {learner.name: learner.settings for learner in self._config.learners}
        return ReleasedBudget(
            epsilon=privacy.epsilon,
            delta=privacy.delta,
            mechanism=privacy.mechanism,
            safe=privacy.safe,
            spent=spent_in(privacy, learners, finished),
        )

    def news(self, members: Mapping[str, int]) -> dict[int, bytes]:
        """Return by node the entries it has to be shown, one a line: those it lacks, or at least the last one."""
        head = self.book.head()
        last = head.sequence if head else 0
        shown = self.book.shown() | self._heard
        parts: dict[int, tuple[int, bytes]] = {}
        news = {}
        for partner, node in members.items():
            after = min(shown.get(partner, 0), last - 1)
            if after not in parts:
                entries = self.book.entries(after=after, limit=_MOST)
                parts[after] = (entries[-1].sequence, b"".join(entry.line() + b"\n" for entry in entries))
            self._sent[partner], news[node] = parts[after]
        return news

    def heard(self, partner: str, code: str) -> None:
        """Take an answer (``code`` empty) or its code as word of what the partner has taken over."""
        if not code:
            self._heard[partner] = self._sent.get(partner, 0)
        elif code == _BEHIND:
            self._heard[partner] = 0
