"""What a server's message says, in Koinon's types."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from koinon.errors import FederationError, PrivacyError
from koinon.privacy.manifest import manifest_sha256
from koinon.protos import federation_pb2 as wire
from koinon.recommenders.protocol import Release, Task, TensorSpec

if TYPE_CHECKING:
    from koinon.data import SplitConfig
    from koinon.privacy.budget import PrivacyConfig

__all__ = ["Agreement", "Ask", "SecureStep", "read_ask", "read_policy"]

Value = bool | int | float | str


@dataclass(frozen=True)
class Agreement:
    """The federation's policy, as the server states it.

    Attributes
    ----------
    sha256
        Its fingerprint; a partner works only for the one its operator has accepted.
    learners
        Settings by learner.
    minimum_participants
        A round with fewer is none.
    secure
        Tensors leave masked, so that the server sees totals alone.
    privacy_json
        The privacy budget, or ``""``.
    encoder_sha256
        Fingerprint that the encoder must have, or ``""``.
    """

    federation: str
    encoder: str
    split_json: str
    learners: Mapping[str, Mapping[str, Value]]
    metrics: frozenset[str]
    keyed_catalogues: bool
    seed: int
    sha256: str
    minimum_participants: int = 1
    secure: bool = False
    privacy_json: str = ""
    encoder_sha256: str = ""

    @property
    def privacy(self) -> PrivacyConfig | None:
        """The privacy budget.

        Raises
        ------
        PrivacyError
            K660-K664 an unsound one.
        """
        if not self.privacy_json:
            return None
        from koinon.privacy.budget import PrivacyConfig

        return PrivacyConfig.from_dict(json.loads(self.privacy_json), source="the federation's privacy budget")

    @property
    def split(self) -> SplitConfig:
        """How every member divides its events."""
        from koinon.data import SplitConfig

        return SplitConfig.from_dict(json.loads(self.split_json), source="the federation's split")


@dataclass(frozen=True)
class SecureStep:
    """What a server says of a secure sum.

    Attributes
    ----------
    learner, round, attempt
        Which sum.
    parties
        How many have shared keys; 0 before that is known.
    said
        The protocol's own message.
    """

    learner: str
    round: int
    attempt: int
    parties: int
    said: bytes


@dataclass(frozen=True)
class Ask:
    """One message of a server.

    Attributes
    ----------
    run
        Names the run; constant over resumes.
    releases
        By learner; their tensors are empty when only the instruction was read.
    task
        What is asked for, or ``None``.
    secure
        The step of a secure sum, or ``None``.
    next
        The step of the next round's, to be taken beside it.
    manifests
        By learner, the hash of what the server has stated and signed of its release; ``""`` where it stated nothing.
    """

    run: str
    agreement: Agreement
    releases: Mapping[str, Release]
    task: Task | None
    secure: SecureStep | None = None
    next: SecureStep | None = None
    manifests: Mapping[str, str] = field(default_factory=dict)

    def check(self, accepted: str) -> None:
        """Raise ``PrivacyError`` K611 unless the policy is the one that the partner's operator has accepted."""
        if self.agreement.sha256 != accepted:
            raise PrivacyError(
                "K611",
                f"The server's policy ({self.agreement.sha256[:12]}) is not the one accepted ({accepted[:12]}).",
                "Read the new policy, and accept it before the node is started again.",
            )

    @property
    def learner(self) -> str:
        """The learner a task is about."""
        (name,) = self.releases
        return name


def read_ask(said: bytes, tensors: Mapping[str, NDArray[np.generic]] | None = None) -> Ask:
    """Read an instruction and put its releases' tensors in place.

    Parameters
    ----------
    said
        A ``koinon.v1.Instruction``.
    tensors
        ``<learner>/<tensor>`` to array; ``None``: only the instruction is of interest.

    Raises
    ------
    FederationError
        K720 the message cannot be read, K721 a tensor is not the one its manifest names.
    """
    try:
        message = wire.Instruction.FromString(said)
        agreement = read_policy(message.policy)
        task = _task(message.task) if message.HasField("task") else None
    except (DecodeError, ValueError, KeyError) as error:
        raise FederationError("K720", "The server's message cannot be read.", "Are all on one version?") from error
    releases = {m.learner: _release(m, tensors) for m in message.releases}
    if task is not None and len(releases) != 1:
        raise FederationError("K720", "A task must be about one learner.", "Are all on one version?")
    secure = _secure(message.secure) if message.HasField("secure") else None
    if task is not None and secure is not None and (secure.learner, secure.round) != (next(iter(releases)), task.round):
        raise FederationError("K720", "A task and a secure sum are about different rounds.", "Ask the operator.")
    following = _secure(message.next) if message.HasField("next") else None
    stated = {m.learner: manifest_sha256(m.statement) if m.statement else "" for m in message.releases}
    return Ask(message.run, agreement, releases, task, secure, following, stated)


def read_policy(policy: wire.Policy) -> Agreement:
    """Read a policy; ``ValueError`` where a setting has no value."""
    return Agreement(
        federation=policy.federation,
        encoder=policy.encoder,
        encoder_sha256=policy.encoder_sha256,
        split_json=policy.split_json,
        learners={entry.name: {k: _value(v) for k, v in entry.settings.items()} for entry in policy.learners},
        metrics=frozenset(policy.metrics),
        keyed_catalogues=policy.keyed_catalogues,
        seed=policy.seed,
        sha256=hashlib.sha256(policy.SerializeToString(deterministic=True)).hexdigest(),
        minimum_participants=policy.minimum_participants,
        secure=policy.aggregation == "secure",
        privacy_json=policy.privacy_json,
    )


def _secure(step: wire.SecureStep) -> SecureStep:
    if not (step.learner.isidentifier() and step.round > 0 and step.attempt > 0 and 0 <= step.parties <= 1 << 20):
        raise FederationError("K720", "The step of a secure sum cannot be read.", "Are all on one version?")
    return SecureStep(step.learner, step.round, step.attempt, step.parties, step.said)


def _task(task: wire.Task) -> Task:
    specs = tuple(
        TensorSpec(s.name, tuple(s.shape), s.dtype, "sum" if s.aggregation == wire.SUM else "mean", s.clip)
        for s in task.specs
    )
    return Task(task.round, specs, {key: _value(value) for key, value in task.settings.items()}, task.seed)


def _release(manifest: wire.ReleaseManifest, tensors: Mapping[str, NDArray[np.generic]] | None) -> Release:
    arrays: dict[str, NDArray[np.generic]] = {}
    for declared in manifest.tensors if tensors is not None else ():
        assert tensors is not None
        array = tensors.get(f"{manifest.learner}/{declared.name}")
        if (
            array is None
            or (array.dtype.name, array.shape) != (declared.dtype, tuple(declared.shape))
            or hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest() != declared.sha256
        ):
            raise FederationError(
                "K721", f"Tensor {declared.name} is not the one the release names.", "Fetch it again."
            )
        arrays[declared.name] = array
    info = {key: _value(value) for key, value in manifest.info.items()}
    return Release(manifest.number, manifest.learner, arrays, info)


def _value(setting: wire.Setting) -> Value:
    kind: Literal["real", "whole", "text", "flag"] | None = setting.WhichOneof("value")
    if kind is None:
        raise ValueError("a setting without a value")
    value: Value = getattr(setting, kind)
    return value
