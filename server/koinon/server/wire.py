"""From Koinon's types to the wire and back, on the server's side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from koinon.errors import FederationError
from koinon.protos import federation_pb2 as wire
from koinon.recommenders.protocol import Catalogue, Contribution, Release, Task, TensorSpec
from koinon.server.checkpoints import Checkpoint, tensor_sha256
from koinon.server.federation import setting
from koinon.server.state.release_book import Signed

__all__ = ["Answer", "Order", "Steps", "catalogue_of", "contribution_of", "read_answer"]

_AGGREGATION = {"sum": wire.SUM, "mean": wire.MEAN}


Steps = tuple[wire.SecureStep, wire.SecureStep | None]
"""What a node is told of a round's secure sum, and of the next round's."""


class Order:
    """What partners are told in one phase: built once, sent to many.

    Parameters
    ----------
    run, policy, policy_sha256
        The run's name and what its members agreed on.
    checkpoints
        The releases to deliver, by learner.
    task
        What is asked for, or ``None``.
    signed
        What the server states of the releases, by learner.
    news
        Entries of the ledger, by the node that is to take them over.
    """

    def __init__(
        self,
        run: str,
        policy: wire.Policy,
        policy_sha256: str,
        checkpoints: Mapping[str, Checkpoint] | None = None,
        task: Task | None = None,
        *,
        signed: Mapping[str, Signed] | None = None,
        news: Mapping[int, bytes] | None = None,
    ) -> None:
        instruction = wire.Instruction(run=run, policy=policy)
        arrays: dict[str, Array] = {}
        for learner, checkpoint in (checkpoints or {}).items():
            manifest = _manifest(learner, checkpoint, policy_sha256, anonymous=policy.anonymous)
            if signed:
                manifest.statement, manifest.signature = signed[learner].statement, signed[learner].signature
            instruction.releases.append(manifest)
            for name, array in sorted(checkpoint.release.arrays.items()):
                arrays[f"{learner}/{name}"] = Array(np.ascontiguousarray(array))
        if task is not None:
            instruction.task.CopyFrom(_task(task))
        self._said = instruction.SerializeToString(deterministic=True)
        self._tensors = ArrayRecord(arrays)
        self.news = news or {}
        self._steps: Mapping[int, Steps] = {}

    def with_steps(self, steps: Mapping[int, Steps]) -> Order:
        """Give the same order, with what each node is told of secure sums."""
        order = copy(self)
        order._steps = steps
        return order

    def to(self, node: int, kind: str, *, ttl: float) -> Message:
        """One message; all messages of an order share the tensors' bytes."""
        instruction = self._said
        if node in self._steps:  # serialised messages are merged by putting them one after the other
            now, following = self._steps[node]
            instruction += wire.Instruction(secure=now, next=following).SerializeToString(deterministic=True)
        said = ConfigRecord({"instruction": instruction, "ledger": self.news.get(node, b"")})
        content = RecordDict({"instruction": said, "tensors": self._tensors})
        return Message(content, node, kind, ttl=ttl)


@dataclass(frozen=True)
class Answer:
    """A partner's answer as it came: the reply and, apart from it, its tensors."""

    reply: wire.Reply
    tensors: ArrayRecord | None


def read_answer(message: Message) -> Answer:
    """Take a reply apart.

    Raises
    ------
    FederationError
        K703 the message is none of ours.
    """
    try:
        content = message.content
        said = content.config_records["reply"]["reply"]
        if not isinstance(said, bytes):
            raise TypeError("reply is not bytes")
        return Answer(wire.Reply.FromString(said), content.array_records.get("tensors"))
    except (KeyError, TypeError, DecodeError) as error:
        raise FederationError("K703", "An answer could not be read.", "Are all members on one version?") from error


def contribution_of(answer: Answer, specs: Sequence[TensorSpec]) -> Contribution:
    """Return a partner's contribution, held against what was asked for: a server trusts no partner's shapes.

    Raises
    ------
    FederationError
        K785 other tensors, shapes or dtypes than asked for, or a number of people below 0; K786 a value that is not
        finite.
    """
    tensors: Mapping[str, Array] = answer.tensors if answer.tensors is not None else {}
    arrays: dict[str, NDArray[np.generic]] = {}
    wanted = {spec.name: (spec.dtype, tuple(spec.shape)) for spec in specs}
    if set(tensors) != set(wanted) or answer.reply.users < 0:
        raise _unasked()
    for name, array in tensors.items():
        if (array.dtype, tuple(array.shape)) != wanted[name]:
            raise _unasked()
        try:
            value = array.numpy()
        except (ValueError, TypeError, EOFError) as error:
            raise _unasked() from error
        if (value.dtype.name, value.shape) != wanted[name]:
            raise _unasked()
        if not np.isfinite(value).all():
            raise FederationError("K786", f"A partner sent {name} with a value that is not finite.", "It is left out.")
        arrays[name] = value
    return Contribution(arrays, int(answer.reply.users), dict(answer.reply.metrics))


def catalogue_of(answer: Answer) -> Catalogue:
    """Return what a partner said of its items.

    Raises
    ------
    FederationError
        K703 columns of unequal length.
    """
    said = answer.reply.catalogue
    if said.public and not len(said.keys) == len(said.texts) == len(said.languages):
        raise _wrong()
    return Catalogue(
        partner=answer.reply.partner,
        keys=tuple(said.keys),
        texts=tuple(said.texts) if said.public else None,
        languages=tuple(said.languages) if said.public else None,
    )


def _unasked() -> FederationError:
    return FederationError("K785", "A partner sent other tensors than it was asked for.", "Are all on one version?")


def _wrong() -> FederationError:
    return FederationError("K703", "A partner sent something else than asked for.", "Are all on one version?")


def _task(task: Task) -> wire.Task:
    message = wire.Task(round=task.round, seed=task.seed)
    for key, value in task.settings.items():
        message.settings[key].CopyFrom(setting(value))
    message.specs.extend(_specs(task.specs))
    return message


def _specs(specs: Iterable[TensorSpec]) -> Iterable[wire.TensorSpec]:
    for spec in specs:
        yield wire.TensorSpec(
            name=spec.name,
            shape=spec.shape,
            dtype=spec.dtype,
            aggregation=_AGGREGATION[spec.aggregation],
            clip=spec.clip,
        )


def _manifest(learner: str, checkpoint: Checkpoint, policy_sha256: str, *, anonymous: bool) -> wire.ReleaseManifest:
    release: Release = checkpoint.release
    manifest = wire.ReleaseManifest(
        number=release.number,
        learner=learner,
        participants=() if anonymous else checkpoint.participants,
        policy_sha256=policy_sha256,
        koinon_version=version("koinon"),
    )
    for key, value in release.info.items():
        manifest.info[key].CopyFrom(setting(value))
    for name, array in sorted(release.arrays.items()):
        manifest.tensors.add(name=name, shape=array.shape, dtype=array.dtype.name, sha256=tensor_sha256(array))
    return manifest
