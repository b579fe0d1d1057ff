"""The federation's course: who is there, what is asked, what comes of it, and what is kept.

The coordinator sees public catalogues (or keyed hashes), the declared tensors and the declared figures. It never waits
for ever: each phase has a deadline, whoever is late, gone or answers with an error is left out of the round, named and
logged, and the round goes on with the rest as long as the policy's minimum is there.
"""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from flwr.serverapp import Grid

from koinon.errors import FederationError
from koinon.privacy.ledger import member_keys
from koinon.recommenders.federated import registry
from koinon.recommenders.federated.budgeting import noise_of, prices, with_noise
from koinon.recommenders.protocol import Catalogue, FederationPlan, Release, Task, Total
from koinon.server.aggregation import Cells, Gate
from koinon.server.checkpoints import Checkpoint, Checkpoints, RunState
from koinon.server.exchange import CHANGED, IMPOSTOR, VANISHED, Exchange
from koinon.server.federation import FederationConfig, LearnerConfig
from koinon.server.gathering import Asked, Gathered, OpenGathering, SecureGathering
from koinon.server.operation.watch import Figures, History, RunSeen, alarms, harmful
from koinon.server.progress import ProgressLog
from koinon.server.record import Record
from koinon.server.state.release_book import Listed
from koinon.server.wire import Order, catalogue_of
from koinon.space import Space

__all__ = ["PROTECTION", "Coordinator"]

PROTECTION = {
    False: "none: the server sees each partner's sums in the clear",
    True: "secure aggregation: the server sees the total of at least three partners' sums",
}
"""What a release says of how the sums in it were gathered, by whether it was securely."""
_TOLD_SECONDS = 60.0
"""Who does not answer that it has heard of a withdrawal hears of it with the next order."""


class Coordinator:
    """Runs a federation over a grid.

    Parameters
    ----------
    grid
        Flower's connection to the nodes.
    config
        The federation.
    out
        Output folder; if it holds an unfinished run of the same policy, that run goes on.
    space
        The pinned encoder, for plans that read public texts; ``None`` where no plan does.
    say
        Told what happens.
    record
        Where it goes on record; ``None``: in the output folder.
    registered
        Which node's key is registered for which partner, asked anew whenever nodes are looked for; nobody else is
        asked anything. ``None``: a node is the partner that it says it is (nodes that were started here).
    """

    def __init__(
        self,
        grid: Grid,
        config: FederationConfig,
        out: Path,
        space: Space | None,
        say: ProgressLog,
        record: Record | None = None,
        registered: Callable[[], Mapping[int, str]] | None = None,
    ) -> None:
        self.exchange = Exchange(grid)
        self.config = config
        self.out = out
        self.space = space
        self.checkpoints = Checkpoints(out)
        self.say = say
        self.record = record or Record.open(out, config)
        self.registered = registered
        self.policy = config.policy()
        self.policy_sha256 = config.policy_sha256()
        self.members: dict[str, int] = {}
        self.catalogues: dict[str, Catalogue] = {}
        self._asked: set[int] = set()
        self._published: dict[str, Listed] = {}
        self._scratch = out / "scratch"

    def run(self) -> None:
        """Gather the partners, train every learner, publish, deliver.

        Raises
        ------
        FederationError
            K704 fewer answers than the policy's minimum; K710 damaged state.
        """
        shutil.rmtree(self._scratch, ignore_errors=True)
        state = self._begin()
        self.gathering = self._gathering(state)
        started = time.monotonic()
        try:
            self._gather(state, wait=self.config.deadlines.join)
            finals = {learner.name: self._train(learner, state) for learner in self.config.learners}
            if learned := {name: final for name, final in finals.items() if name in registry.LEARNERS}:
                self._deliver(learned, state)
        finally:
            shutil.rmtree(self._scratch, ignore_errors=True)
        self.checkpoints.finish(state)
        self.say("finished", run=state.run, seconds=round(time.monotonic() - started, 3))

    def _begin(self) -> RunState:
        state = self.checkpoints.run_state()
        if state is not None and not state.finished and state.policy_sha256 == self.policy_sha256:
            self.say("resumed", run=state.run, partners=sorted(self.config.partners))
            self.record.run_started(state, len(self.config.partners), resumed=True)
            return state
        state = self.checkpoints.begin(secrets.token_hex(8), self.policy_sha256)
        self.say("started", run=state.run, partners=sorted(self.config.partners))
        self.record.run_started(state, len(self.config.partners), resumed=False)
        return state

    def _gathering(self, state: RunState) -> OpenGathering | SecureGathering:
        """How this run's answers are gathered."""
        config = self.config
        if config.aggregation == "secure":
            members = member_keys(self.record.book.entries())
            return SecureGathering(self.exchange, self.policy, deadline=config.deadlines.catalogue, members=members)
        largest = config.robustness.largest_partner
        gate = Gate(self.checkpoints.folder / "gate.json", state.run, largest_partner=largest)
        return OpenGathering(self.exchange, self._scratch, gate, config.aggregation, config.robustness)

    def _gather(self, state: RunState, *, wait: float) -> None:
        """Learn which node is which partner; nodes not met before are asked for their catalogue."""
        until = time.monotonic() + wait
        while True:
            present = self.exchange.nodes()
            if self.registered:
                present &= set(self.registered())
            self.members = {partner: node for partner, node in self.members.items() if node in present}
            self._asked &= present  # a node that went and comes back under its id is asked anew
            strangers = present - self._asked
            if strangers:
                self._introduce(strangers, state)
            if len(self.members) == len(self.config.partners) or time.monotonic() > until:
                break
            time.sleep(0.2)
        if len(self.members) < self.config.minimum_participants:
            raise FederationError(
                "K704",
                f"Only {len(self.members)} of {len(self.config.partners)} partners are there, at least"
                f" {self.config.minimum_participants} are needed. There: {', '.join(sorted(self.members)) or 'none'}.",
                "See progress.jsonl for who was left out and why; start again and the run goes on.",
            )

    def _introduce(self, strangers: set[int], state: RunState) -> None:
        self._asked |= strangers
        order = Order(state.run, self.policy, self.policy_sha256)
        nodes = {str(node): node for node in strangers}
        registered = self.registered() if self.registered else {}
        deadline = self.config.deadlines.catalogue
        for outcome in self.exchange.ask(order, "query.catalogue", nodes, deadline=deadline):
            if outcome.answer is None:
                self.say("left_out", partner=None, phase="catalogue", code=outcome.code)
                continue
            catalogue = catalogue_of(outcome.answer)
            owner = registered.get(nodes[outcome.partner], catalogue.partner)
            if catalogue.partner != owner:
                self.say("left_out", partner=owner, phase="catalogue", code=IMPOSTOR)
                continue
            if catalogue.partner not in self.config.partners:
                self.say("left_out", partner=None, phase="catalogue", code="K705")
                continue
            self.members[catalogue.partner] = nodes[outcome.partner]
            self.catalogues[catalogue.partner] = catalogue
            self.say("joined", partner=catalogue.partner, items=len(catalogue.keys), public=catalogue.texts is not None)

    def _train(self, learner: LearnerConfig, state: RunState) -> Checkpoint:
        plan = registry.plan(learner.name, learner.settings)
        checkpoint = self.checkpoints.load(learner.name)
        if checkpoint is None:
            checkpoint = self._initial(learner, plan)
        else:
            registry.restore(plan, checkpoint.plan_state)
            # a server that was killed between saving a round and recording it does so now
            self.record.round_finished(learner.name, state, checkpoint)
        while checkpoint.release.number < plan.rounds:
            checkpoint = self._round(learner, plan, checkpoint, state)
        published = self.record.published(learner.name, checkpoint, state)
        self._published[learner.name] = published
        self.say("release", learner=learner.name, release=published.folder.name, rounds=checkpoint.release.number)
        return checkpoint

    def _initial(self, learner: LearnerConfig, plan: FederationPlan) -> Checkpoint:
        started = time.monotonic()
        catalogues = [self.catalogues[name] for name in sorted(self.catalogues)]
        release = plan.initial(catalogues, self.space, rng=np.random.default_rng(self.config.seed))
        checkpoint = Checkpoint(self._numbered(release, 0), registry.state(plan), ())
        self.checkpoints.save(learner.name, checkpoint)
        self.say("initial", learner=learner.name, seconds=round(time.monotonic() - started, 3))
        return checkpoint

    def _round(
        self, learner: LearnerConfig, plan: FederationPlan, checkpoint: Checkpoint, state: RunState
    ) -> Checkpoint:
        started = time.monotonic()
        number = checkpoint.release.number + 1
        self._gather(state, wait=0.0)
        task = plan.task(checkpoint.release, number)
        order = Order(
            state.run,
            self.policy,
            self.policy_sha256,
            {learner.name: checkpoint},
            task,
            signed={learner.name: self.record.signed(learner.name, checkpoint, state)},
            news=self.record.news(self.members),
        )
        asked = Asked(
            state.run,
            self.policy_sha256,
            learner.name,
            task,
            order,
            dict(self.members),
            self.config.deadlines.contribute,
            Cells(checkpoint.release, plan.measures, self.catalogues, self._noise(learner, plan, task)),
            number == plan.rounds,
            self.record.heard,
        )
        gathered = self.gathering.gather(asked)
        gathered.left_out |= dict.fromkeys(set(self.config.partners) - set(self.members), VANISHED)
        waited = time.monotonic() - started
        participants = gathered.total.partners
        if len(participants) < self.config.minimum_participants:
            self.say("left_out", phase="contribute", learner=learner.name, round=number, codes=gathered.left_out)
            raise FederationError(
                "K704",
                f"Round {number} of {learner.name}: {len(participants)} answers, at least"
                f" {self.config.minimum_participants} are needed. Left out: {_named(gathered.left_out)}.",
                "See docs/errors.md for the codes; start again and the run goes on from the last finished round.",
            )
        release = self._numbered(plan.aggregate(checkpoint.release, self._known(gathered.total, learner, task)), number)
        metrics = _means(gathered.metrics)
        result = Checkpoint(release, registry.state(plan), participants, metrics, gathered.left_out)
        self.checkpoints.save(learner.name, result)
        self.record.round_finished(learner.name, state, result)
        self.record.stood_out(learner.name, state, number, gathered.suspicions())
        self._report(learner, plan, number, gathered, waited, time.monotonic() - started)
        for partner, code in gathered.left_out.items():
            if code == CHANGED:  # its catalogue is asked for anew before the next round
                self._asked.discard(self.members.pop(partner))
        return result

    def _numbered(self, release: Release, number: int) -> Release:
        info = {**release.info, "protection": PROTECTION[self.config.aggregation == "secure"]}
        return Release(number, release.recommender, release.arrays, info)

    def _known(self, total: Total, learner: LearnerConfig, task: Task) -> Total:
        """The total, saying how much noise is in it."""
        privacy = self.config.privacy
        if privacy is None:
            return total
        learners = {each.name: each.settings for each in self.config.learners}
        return with_noise(privacy, learners, learner.name, task, total, self.config.minimum_participants)

    def _noise(self, learner: LearnerConfig, plan: FederationPlan, task: Task) -> dict[str, float]:
        """Standard deviation that each tensor of a partner may have by the policy."""
        privacy = self.config.privacy
        if privacy is None:
            return {}
        learners = {each.name: each.settings for each in self.config.learners}
        found: dict[str, float] = {}
        for partner in self.config.partners:
            price = prices(privacy, learners, partner)[learner.name, task.round]
            for name, deviation in noise_of(plan, task.specs, price).items():
                found[name] = max(found.get(name, 0.0), deviation)
        return found

    def _report(
        self, learner: LearnerConfig, plan: FederationPlan, number: int, gathered: Gathered, waited: float, whole: float
    ) -> None:
        work = {p: m["work_seconds"] for p, m in gathered.metrics.items() if "work_seconds" in m}
        # partners share the machine's places, so their work cannot have taken less time than this
        busy = max(max(work.values(), default=0.0), sum(work.values()) / self.config.at_once)
        self.say(
            "round",
            learner=learner.name,
            round=number,
            rounds=plan.rounds,
            participants=list(gathered.total.partners),
            left_out=gathered.left_out,
            anomalies=[anomaly.plain() for anomaly in gathered.anomalies],
            metrics={p: {k: v for k, v in m.items() if k != "work_seconds"} for p, m in gathered.metrics.items()},
            seconds=round(whole, 3),
            work_seconds=work,
            aggregate_seconds=round(whole - waited, 3),
            overhead_seconds=round(max(waited - busy, 0.0), 3) if work else None,
        )

    def _deliver(self, finals: Mapping[str, Checkpoint], state: RunState) -> None:
        """Give every partner the final releases; each fits, chooses on its own validation, and keeps its models."""
        self._gather(state, wait=0.0)
        news = self.record.news(self.members)
        # a server that was killed after it had withdrawn a release does not deliver it again
        counting = {name: final for name, final in finals.items() if not self._published[name].withdrawn}
        signed = {name: self._published[name].signed for name in counting}
        order = Order(state.run, self.policy, self.policy_sha256, counting, signed=signed, news=news)
        # one more than can compute, so that no place is empty between two
        at_once = self.config.at_once + 1
        deadline = self.config.deadlines.adopt
        adopted: dict[str, Mapping[str, float]] = {}
        left_out: dict[str, str] = {}
        for outcome in self.exchange.ask(order, "train.adopt", self.members, deadline=deadline, at_once=at_once):
            self.record.heard(outcome.partner, outcome.code)
            if outcome.answer is None:
                left_out[outcome.partner] = outcome.code
                self.say("left_out", partner=outcome.partner, phase="adopt", code=outcome.code)
            else:
                metrics = dict(outcome.answer.reply.metrics)
                adopted[outcome.partner] = metrics
                self.say("adopted", partner=outcome.partner, metrics=metrics, seconds=round(outcome.seconds, 3))
        self._watch(adopted, left_out, state)

    def _watch(self, adopted: Figures, left_out: Mapping[str, str], state: RunState) -> None:
        """Hold what the releases have brought against the run before; withdraw what harms, and tell the partners."""
        history, watch = History(self.out), self.config.watch
        earlier = [seen for seen in history.runs() if seen.run != state.run]
        found = alarms(adopted, earlier[-1].figures if earlier else {}, watch)
        for alarm in found:
            self.record.alarmed(alarm, state)
            self.say("alarm", partner=alarm.partner, learner=alarm.learner, code=alarm.code)
        for learner in harmful(found, watch):
            withdrawn, back_to = self.record.releases.withdraw(learner, "harm")
            self._published[learner] = replace(self._published[learner], withdrawn=True)
            number = back_to.manifest.number if back_to else 0
            self.say("withdrawn", learner=learner, release=withdrawn.manifest.number, back_to=number, reason="harm")
        gone = tuple(sorted(name for name, listed in self._published.items() if listed.withdrawn))
        if gone:
            order = Order(state.run, self.policy, self.policy_sha256, news=self.record.news(self.members))
            for outcome in self.exchange.ask(order, "query.withdrawn", self.members, deadline=_TOLD_SECONDS):
                self.record.heard(outcome.partner, outcome.code)
        history.add(
            RunSeen(
                state.run,
                datetime.now(UTC).isoformat(timespec="seconds"),
                {name: listed.manifest.number for name, listed in self._published.items()},
                adopted,
                left_out,
                found,
                gone,
            )
        )


def _means(metrics: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Mean of each figure over the partners that gave it; how long they worked is no figure of the release."""
    names = sorted({name for given in metrics.values() for name in given} - {"work_seconds"})
    given = {name: [figures[name] for _, figures in sorted(metrics.items()) if name in figures] for name in names}
    return {name: float(np.mean(values)) for name, values in given.items()}


def _named(codes: Mapping[str, str]) -> str:
    return ", ".join(f"{partner} ({code})" for partner, code in sorted(codes.items())) or "nobody"
