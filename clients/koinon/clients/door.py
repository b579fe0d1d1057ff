"""The door: the one function through which anything leaves a partner.

A security reviewer who has read this file knows everything that ever leaves. :func:`cross` takes what the partner's
side has computed, holds it against the policy, writes one line to the egress log, and only then returns the records
that travel. Whatever is not declared does not cross; an error crosses as its code alone, never as its text.

What can cross, and nothing else:

==================  ==================================================================================================
tensors             exactly those of the policy's specs: name, shape, dtype, finite, within the declared norm; under
                    a privacy budget only with the charge that the partner's account holds for them
metrics             finite numbers under names the policy lists
users               how many people the tensors speak for
catalogue           identity keys; texts and languages only of a catalogue the partner itself has declared public
code                ``K`` and three digits
join requests       public keys, hashes, names, times, signatures, the invitation's secret: each in its form
secure sums         where the policy says so the tensors and the count leave as masked words instead, and beside them
                    the protocol's own messages: public keys, sealed shares, shares of seeds
==================  ==================================================================================================

Names, shapes and dtypes come from the policy, so they cannot depend on anybody's events. Values can: what protects
them is the clipping that the specs demand, and secure aggregation where a federation has it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray

from koinon.errors import KoinonError, PrivacyError
from koinon.protos import federation_pb2 as wire
from koinon.protos import joining_pb2 as joining
from koinon.recommenders.protocol import Catalogue, Contribution, TensorSpec

if TYPE_CHECKING:
    from koinon.privacy.budget import Charge

__all__ = ["Adopted", "Payload", "Policy", "SecureMessage", "cross", "error_code"]

UNFORESEEN = "K799"
_CODE = re.compile(r"K\d{3}")
_KEYED = re.compile(r"[0-9a-f]{32,64}")
_DTYPES = frozenset({"float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint32", "uint64"})
_SECURE_KINDS = frozenset({"keys", "share", "agree", "unmask"})
_SECURE_BYTES = 1 << 20
_SLACK = 1.0 + 1e-4
"""Norms are held with this tolerance: a sum of float32 is not exact."""
_HASH = re.compile(rb"[0-9a-f]{64}")
_FORMS = {
    "invitation": re.compile(rb"[A-Za-z0-9_-]{43}"),
    "federation": re.compile(rb"[A-Za-z0-9+/]{43}="),
    "policy_sha256": _HASH,
    "code_sha256": _HASH,
    "koinon_version": re.compile(rb"[0-9A-Za-z.+!-]{1,40}"),
    "node_key": re.compile(rb"ecdsa-sha2-nistp384 [A-Za-z0-9+/]{182}=="),
    "member_key": re.compile(rb"(?s).{32}"),
    "signature": re.compile(rb"(?s).{64}"),
}
"""What the text and the bytes of a join request may look like; ``partner`` is the policy's."""


Mask = Callable[[Sequence[TensorSpec], Mapping[str, NDArray[np.generic]], int], NDArray[np.uint8]]


@dataclass(frozen=True)
class Policy:
    """What may leave on one occasion.

    Attributes
    ----------
    partner
        The partner's name in the federation; every answer carries it.
    purpose
        Why something leaves, e.g. ``contribute federated_gram``; for the log.
    round
        1-based; 0 outside a round.
    specs
        The only tensors that may leave.
    metrics
        The only names under which a figure may leave.
    catalogue_public
        The partner's own declaration (``partner.toml``); a server cannot set it.
    keyed
        Identity keys must be keyed hashes, not readable text.
    mask
        Where the partner has agreed on secure sums: turns checked tensors and the number of people into masked words,
        and nothing leaves without it.
    budget
        Whether the policy has a privacy budget: no tensors leave without their charge.
    charge
        What the tensors cost, from the partner's account; the log line names it.
    """

    partner: str
    purpose: str
    round: int = 0
    specs: tuple[TensorSpec, ...] = ()
    metrics: frozenset[str] = frozenset()
    catalogue_public: bool = False
    keyed: bool = False
    mask: Mask | None = None
    budget: bool = False
    charge: Charge | None = None


@dataclass(frozen=True)
class SecureMessage:
    """A partner's message in a secure sum, as :mod:`koinon.privacy.secure_sum` makes it; it holds no data.

    Attributes
    ----------
    kind
        ``keys``, ``share``, ``agree`` or ``unmask``.
    """

    kind: str
    said: bytes


@dataclass(frozen=True)
class Adopted:
    """The answer to a delivered release: figures under names the policy declares."""

    metrics: Mapping[str, float] = field(default_factory=dict)


Request = (
    joining.DescribeRequest
    | joining.Application
    | joining.StandingRequest
    | joining.LeaveRequest
    | joining.RotateRequest
)
"""What a partner asks a federation's joining service."""

Payload = Contribution | Catalogue | Adopted | SecureMessage | Request | BaseException
"""Everything that may ask to leave."""


def cross(payload: Payload, policy: Policy, egress_log: Path, *, beside: SecureMessage | None = None) -> RecordDict:
    """Check a payload against the policy, log the crossing, and return the records that travel.

    Parameters
    ----------
    payload
        What wants to leave. An exception leaves as its code: the code of a
        :class:`~koinon.errors.KoinonError`, ``K799`` for any other.
    policy
        What may leave on this occasion.
    egress_log
        File to which one JSON line per crossing is appended and synced before anything is returned:
        ``time, purpose, round, names, shapes, bytes, sha256`` and what else the answer holds.
    beside
        A message for the next round's secure sum, which travels with this answer.

    Returns
    -------
    RecordDict
        ``reply``: a ``koinon.v1.Reply``; ``tensors``: the tensors, if any. Of a join request: ``request``, the bytes.

    Raises
    ------
    PrivacyError
        K601 a tensor that is not declared or is missing, K602 another shape or dtype, K603 not finite,
        K604 a norm above the bound, K605 a metric that is not declared or not finite, K606 a text of a catalogue
        that is not public, K607 a readable key where keyed hashes are agreed on, K608 a negative count of users,
        K609 the log cannot be written, K610 something that is no payload, K650 a join request that holds something in
        another form than declared, K614 something else than a message of a secure sum,
        K674 tensors under a privacy budget without their charge.
    """
    if isinstance(payload, Request):
        request = _checked_request(payload, policy)
        asked = request.SerializeToString(deterministic=True)
        _log(policy, wire.Reply(), asked, {}, egress_log, [field.name for field, _ in request.ListFields()])
        return RecordDict({"request": ConfigRecord({"request": asked})})
    reply = wire.Reply(partner=policy.partner, round=policy.round)
    tensors: dict[str, NDArray[np.generic]] = {}
    if isinstance(payload, BaseException):
        reply.code = error_code(payload)
    elif isinstance(payload, Contribution):
        tensors = _checked_tensors(payload, policy)
        if policy.mask is None:
            reply.users = payload.n_users
        else:
            tensors = {"masked": policy.mask(policy.specs, tensors, payload.n_users)}
        reply.metrics.update(_checked_metrics(payload.metrics, policy))
    elif isinstance(payload, Catalogue):
        reply.catalogue.CopyFrom(_checked_catalogue(payload, policy))
    elif isinstance(payload, Adopted):
        reply.metrics.update(_checked_metrics(payload.metrics, policy))
    elif isinstance(payload, SecureMessage):
        reply.secure = _checked_message(payload)
    else:
        raise PrivacyError("K610", f"A {type(payload).__name__} must not leave.", "Only declared payloads may.")
    if beside is not None:
        reply.next = _checked_message(beside)
    arrays = {name: Array(tensor) for name, tensor in tensors.items()}
    said = reply.SerializeToString(deterministic=True)
    _log(policy, reply, said, arrays, egress_log)
    records = RecordDict({"reply": ConfigRecord({"reply": said})})
    if arrays:
        records["tensors"] = ArrayRecord(arrays)
    return records


def error_code(error: BaseException) -> str:
    """Return the code under which an error may be named outside; it never holds data."""
    code = error.code if isinstance(error, KoinonError) else UNFORESEEN
    return code if isinstance(code, str) and _CODE.fullmatch(code) else UNFORESEEN


def _checked_tensors(payload: Contribution, policy: Policy) -> dict[str, NDArray[np.generic]]:
    if policy.budget and policy.charge is None:
        raise PrivacyError("K674", "Nothing was charged for these tensors.", "Under a budget they must not leave.")
    specs = {spec.name: spec for spec in policy.specs}
    if set(payload.arrays) != set(specs) or len(specs) != len(policy.specs):
        wrong = ", ".join(sorted(set(payload.arrays) ^ set(specs)))
        raise PrivacyError("K601", f"Not the declared tensors: {wrong}.", "Give exactly those of the task's specs.")
    if not isinstance(payload.n_users, int) or payload.n_users < 0:
        raise PrivacyError("K608", f"{payload.n_users!r} is no count of users.", "Give a whole number, 0 or more.")
    checked = {}
    for name, spec in specs.items():
        # a fresh, contiguous, plain array: no view can carry its base along, no subclass its extras
        tensor = np.array(payload.arrays[name], order="C", copy=True, subok=False)
        if tensor.dtype.name not in _DTYPES or (tensor.dtype.name, tensor.shape) != (spec.dtype, tuple(spec.shape)):
            raise PrivacyError(
                "K602",
                f"Tensor {name} is {tensor.dtype.name}{list(tensor.shape)}, declared {spec.dtype}{list(spec.shape)}.",
                "Shape and dtype come from the policy, never from the data.",
            )
        norm = float(np.linalg.norm(tensor.astype(np.float64, copy=False).ravel()))
        if not math.isfinite(norm):
            raise PrivacyError("K603", f"Tensor {name} is not finite.", "Lower the step size or check the data.")
        # a sum of statistics, each person's clipped to the bound, is within the bound times the people
        people = payload.n_users if spec.aggregation == "sum" else 1
        bound = spec.clip * people if math.isfinite(spec.clip) else math.inf
        if policy.charge is not None:  # noise on top; its norm is above this once in 10^10 times
            bound += policy.charge.noise.get(name, 0.0) * (math.sqrt(tensor.size) + 7)
        if norm > bound * _SLACK:
            raise PrivacyError("K604", f"Tensor {name} exceeds its bound.", "Clip before contributing.")
        checked[name] = tensor
    return checked


def _checked_metrics(metrics: Mapping[str, float], policy: Policy) -> dict[str, float]:
    for name, value in metrics.items():
        if name not in policy.metrics or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise PrivacyError("K605", f"Metric {name} must not leave.", "Declare it in the policy; it must be finite.")
    return {name: float(value) for name, value in metrics.items()}


def _checked_catalogue(catalogue: Catalogue, policy: Policy) -> wire.Catalogue:
    if (catalogue.texts is not None or catalogue.languages is not None) and not policy.catalogue_public:
        raise PrivacyError("K606", "This catalogue is not public.", "Declare it public in partner.toml, or send keys.")
    hidden = policy.keyed or not policy.catalogue_public
    if hidden and not all(_KEYED.fullmatch(key) for key in catalogue.keys):
        raise PrivacyError("K607", "A readable key must not leave.", "Use the match key agreed among the partners.")
    return wire.Catalogue(
        keys=catalogue.keys,
        public=catalogue.texts is not None,
        texts=catalogue.texts or (),
        languages=catalogue.languages or (),
    )


def _checked_request(request: Request, policy: Policy) -> Request:
    """Put what has its declared form into a fresh message: what nobody declared is not carried along."""
    fresh = type(request)()
    for described, value in request.ListFields():
        form = _FORMS.get(described.name)
        if isinstance(value, (str, bytes)):
            said = value.encode() if isinstance(value, str) else value
            declared = value == policy.partner if described.name == "partner" else form and form.fullmatch(said)
            if not declared:
                raise PrivacyError(
                    "K650",
                    f"{described.name} of {type(request).__name__} must not leave in this form.",
                    "Public keys, hashes and names alone may.",
                )
        setattr(fresh, described.name, value)  # a time or a flag has no form to hold
    return fresh


def _checked_message(payload: SecureMessage) -> bytes:
    if payload.kind not in _SECURE_KINDS or not isinstance(payload.said, bytes) or len(payload.said) > _SECURE_BYTES:
        raise PrivacyError("K614", "This is no message of a secure sum.", "Keys, shares and seeds' shares alone may.")
    return payload.said


def _log(
    policy: Policy,
    reply: wire.Reply,
    said: bytes,
    arrays: Mapping[str, Array],
    egress_log: Path,
    fields: Sequence[str] = (),
) -> None:
    """Append one line and sync it. What cannot be logged does not leave."""
    digest = hashlib.sha256(said)
    for array in arrays.values():
        digest.update(array.data)
    line = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "purpose": policy.purpose,
        "round": policy.round,
        "names": list(arrays),
        "shapes": [list(array.shape) for array in arrays.values()],
        "dtypes": [array.dtype for array in arrays.values()],
        "bytes": len(said) + sum(len(array.data) for array in arrays.values()),
        "sha256": digest.hexdigest(),
        "users": reply.users,
        "metrics": sorted(reply.metrics),
        "keys": len(reply.catalogue.keys),
        "texts": len(reply.catalogue.texts),
        "code": reply.code,
        "fields": list(fields),
    }
    if policy.charge is not None:
        line["charge"] = policy.charge.named()
    try:
        egress_log.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(egress_log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            content = (json.dumps(line) + "\n").encode()
            if os.write(handle, content) != len(content):
                raise OSError("short write")
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise PrivacyError(
            "K609", f"The egress log {egress_log} cannot be written: {error}.", "Nothing leaves without its log line."
        ) from error
