"""The joining service: what a company may ask of a federation's server before it has a node, and what it is told.

Requests come as bytes and are read here, so that malformed and oversized ones are refused in words, logged and recorded
like every other refusal. Nobody but the operator's own log ever sees the text of an unforeseen error.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import TypeAlias

import grpc
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key
from google.protobuf.message import DecodeError

from koinon.errors import FederationError, KoinonError
from koinon.protos import joining_pb2 as joining
from koinon.protos.signing import signed_by
from koinon.server.membership.limits import Limits
from koinon.server.membership.records import LONGEST_NAME, NAME, OVER, Applicant, Member
from koinon.server.membership.registry import Registry, in_standing

__all__ = ["LARGEST_REQUEST", "JoiningService"]

LARGEST_REQUEST = 16 * 1024
"""Bytes; no request needs more than a few hundred."""
SKEW_MS = 5 * 60 * 1000
"""How far a request's time may be from the server's."""

_TOLD = frozenset(f"K{number}" for number in range(745, 763))
"""The errors whose words are meant for the other side."""

_LOG = logging.getLogger("koinon.joining")

Request: TypeAlias = (
    joining.DescribeRequest
    | joining.Application
    | joining.StandingRequest
    | joining.LeaveRequest
    | joining.RotateRequest
)
Answer: TypeAlias = joining.Offer | joining.Standing


class JoiningService:
    """Answers what ``koinon.v1.Joining`` may be asked.

    Parameters
    ----------
    registry
        Who is invited and who is a member.
    offer
        What the federation offers at this moment, but for the time and the partner's name.
    limits
        How often one address may ask.
    clock
        Seconds since 1970 UTC.
    """

    def __init__(
        self,
        registry: Registry,
        offer: Callable[[], joining.Offer],
        *,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.registry = registry
        self.offer = offer
        self.limits = limits or Limits()
        self.clock = clock

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what a gRPC server is given to serve."""
        service = joining.DESCRIPTOR.services_by_name["Joining"].full_name
        return grpc.method_handlers_generic_handler(
            service,
            {
                "Describe": self._method("describe", joining.DescribeRequest, self._describe, joining.Offer),
                "Apply": self._method("apply", joining.Application, self._apply, joining.Standing),
                "Ask": self._method("ask", joining.StandingRequest, self._ask, joining.Standing),
                "Leave": self._method("leave", joining.LeaveRequest, self._leave, joining.Standing),
                "RotateKey": self._method("rotate", joining.RotateRequest, self._rotate, joining.Standing),
            },
        )

    def _method(
        self, name: str, kind: type[Request], work: Callable[..., Answer], refusal: type[Answer]
    ) -> grpc.RpcMethodHandler:
        def answer(raw: bytes, context: grpc.ServicerContext) -> bytes:
            peer = _host(context.peer())
            subject = "unknown"
            try:
                self._check_flood(peer)
                request = _read(kind, raw)
                subject = _named(request.partner)
                said = work(request)
            except Exception as error:
                if isinstance(error, FederationError) and error.code in _TOLD:
                    return self._refuse(refusal, name, subject, peer, error).SerializeToString()
                _LOG.exception("%s of %s from %s: unforeseen", name, subject, peer)
                said = refusal(code="K763", message="Something went wrong at the server; its operator can see what.")
            return said.SerializeToString()

        # no deserializer: the bytes themselves
        return grpc.unary_unary_rpc_method_handler(answer)

    def _check_flood(self, peer: str) -> None:
        allowed, first = self.limits.take(peer)
        if not allowed:
            raise _Flood(first)

    def _refuse(self, refusal: type[Answer], action: str, subject: str, peer: str, error: FederationError) -> Answer:
        _LOG.warning("refused %s of %s from %s: [%s] %s", action, subject, peer, error.code, error.message)
        if not isinstance(error, _Flood) or error.first:
            try:
                self.registry.refused(subject, action, error.code)
            except KoinonError as failed:
                _LOG.error("this refusal could not be put on record: %s", failed)
        if error.code == "K758":  # whether a name is a member's is no stranger's business
            error = _not_signed()
        return refusal(code=error.code, message=error.message)

    def _describe(self, request: joining.DescribeRequest) -> joining.Offer:
        if request.invitation:
            partner = self.registry.invitation(request.invitation).partner
        else:
            member = self._heard(request)
            if member.state in OVER:
                raise in_standing(member.state)
            partner = member.name
        offer = joining.Offer()
        offer.CopyFrom(self.offer())
        offer.partner = partner
        offer.server_time_ms = self._now_ms()
        return offer

    def _apply(self, request: joining.Application) -> joining.Standing:
        offer = self.offer()
        invited = self.registry.invitation(request.invitation)
        if invited.partner != request.partner:
            raise FederationError(
                "K749", "The invitation is for another name.", "Apply under the name that the invitation says."
            )
        if not _at_least(request.koinon_version, offer.koinon_version):
            raise FederationError("K753", f"Koinon {offer.koinon_version} or later is needed.", "Install it.")
        if request.code_sha256 != offer.code_sha256:
            raise FederationError("K754", "Another Koinon is installed than the federation runs.", "Install that one.")
        if request.policy_sha256 != offer.policy_sha256:
            raise _other_policy()
        applicant = Applicant(
            partner=request.partner,
            node_key=_node_key(request.node_key),
            member_key=_member_key(request.member_key),
            policy_sha256=request.policy_sha256,
            code_sha256=request.code_sha256,
            koinon_version=request.koinon_version,
            time_ms=request.time_ms,
        )
        self._check_signed(request, applicant.member_key)
        return self._standing(self.registry.apply(request.invitation, applicant))

    def _ask(self, request: joining.StandingRequest) -> joining.Standing:
        member = self._heard(request)
        if request.policy_sha256:
            if request.policy_sha256 != self.offer().policy_sha256:
                raise _other_policy()
            if member.state in OVER:
                raise in_standing(member.state)
            self.registry.accept(member.name, request.policy_sha256)
        return self._standing(member)

    def _leave(self, request: joining.LeaveRequest) -> joining.Standing:
        member = self._heard(request)
        return self._standing(self.registry.leave(member.name, forget=request.forget))

    def _rotate(self, request: joining.RotateRequest) -> joining.Standing:
        member = self._heard(request)
        return self._standing(self.registry.rotate(member.name, _node_key(request.node_key)))

    def _heard(
        self, request: joining.DescribeRequest | joining.StandingRequest | joining.LeaveRequest | joining.RotateRequest
    ) -> Member:
        """Return the member who has signed a request, and note that it was heard."""
        self._check_signed(request, self.registry.member(request.partner).member_key)
        return self.registry.heard(request.partner, request.time_ms)

    def _check_signed(self, request: Request, key: bytes) -> None:
        if not signed_by(request, key) or request.federation != self.offer().ledger_key:
            raise _not_signed()
        apart = request.time_ms - self._now_ms()
        if abs(apart) > SKEW_MS:
            raise FederationError(
                "K756",
                f"The request's time is {abs(apart) / 60_000:.0f} minutes {'ahead of' if apart > 0 else 'behind'} the"
                " server's.",
                "Set the clock; at most 5 minutes are allowed.",
            )

    def _standing(self, member: Member) -> joining.Standing:
        return joining.Standing(state=member.state.name, policy_sha256=self.offer().policy_sha256)

    def _now_ms(self) -> int:
        return int(self.clock() * 1000)


class _Flood(FederationError):
    """Too many requests; ``first`` of its flood."""

    def __init__(self, first: bool) -> None:
        super().__init__("K762", "Too many requests from this address.", "Wait a minute.")
        self.first = first


def _read(kind: type[Request], raw: bytes) -> Request:
    if len(raw) > LARGEST_REQUEST:
        raise FederationError("K761", f"The request is larger than {LARGEST_REQUEST:,} bytes.", "None needs that much.")
    try:
        return kind.FromString(raw)
    except DecodeError as error:
        raise FederationError("K760", "The request cannot be read.", "Are both on one version?") from error


def _named(said: str) -> str:
    """The name under which something was asked, if it is one."""
    return said if NAME.fullmatch(said) and len(said) <= LONGEST_NAME else "unknown"


def _node_key(said: bytes) -> bytes:
    """Return a node's public key as PEM, as Flower keeps it."""
    try:
        key = load_ssh_public_key(said)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _wrong_key("The node key is no OpenSSH public key.") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise _wrong_key("The node key is not of the curve NIST P-384.")
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _member_key(said: bytes) -> bytes:
    if len(said) != 32:
        raise _wrong_key("The member key is no Ed25519 public key.")
    return said


def _wrong_key(said: str) -> FederationError:
    return FederationError("K750", said, "`koinon partner join` makes the right ones.")


def _not_signed() -> FederationError:
    return FederationError(
        "K755", "The request is not signed by this member for this federation.", "Is it this federation's folder?"
    )


def _other_policy() -> FederationError:
    return FederationError("K752", "Another policy was accepted than the federation has.", "Read and accept it anew.")


def _at_least(said: str, wanted: str) -> bool:
    """Whether a version is not below another, by the numbers of its release."""
    found, needed = (re.match(r"\d{1,6}(\.\d{1,6}){0,3}", version) for version in (said, wanted))
    if found is None or needed is None:
        return False
    numbers = [[int(part) for part in match[0].split(".")] for match in (found, needed)]
    width = max(map(len, numbers))
    have, need = ([*part, *[0] * (width - len(part))] for part in numbers)
    return have >= need


def _host(peer: str) -> str:
    """The address without its port: ``ipv4:192.0.2.1:5000`` → ``192.0.2.1``."""
    family, _, address = peer.partition(":")
    return address.rpartition(":")[0] if family in ("ipv4", "ipv6") else peer
