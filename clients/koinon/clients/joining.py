"""Becoming a member of a federation, and what a member asks of its joining service.

Everything sent passes the door and travels as the very bytes that were logged there; TLS believes the invitation's
authority and no other. Whatever ends this process, the same steps again go on where it was: keys are made once, what
was accepted stays accepted, and who has applied asks instead of applying again.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self, TypeVar

import grpc

from koinon.clients import door, pinning
from koinon.clients.keys import Keys
from koinon.clients.membership import Membership, policy_sha256
from koinon.clients.reach import check_server
from koinon.errors import FederationError, PrivacyError, ResourceError
from koinon.protos import joining_pb2 as joining
from koinon.protos.invitation import Invitation
from koinon.protos.signing import sign

__all__ = ["JoiningService", "Member", "Refused", "Standing", "join", "read_invitation"]

Standing = joining.Standing
Answer = TypeVar("Answer", joining.Offer, joining.Standing)

ANSWER_SECONDS = 20.0
OVER = frozenset({Standing.REJECTED, Standing.REMOVED, Standing.LEFT})
"""Standings that end a membership."""
_LARGEST_ANSWER = 1 << 20
_CODE = re.compile(r"K7\d\d")


class Refused(FederationError):
    """The federation's server said no; the code is its own."""

    def __init__(self, code: str, message: str, remedy: str = "Ask the federation's operator.") -> None:
        said = "".join(letter if letter.isprintable() else " " for letter in message)[:300]
        super().__init__(code if _CODE.fullmatch(code) else "K734", f"The federation refuses: {said}", remedy)


class JoiningService:
    """A connection to a federation's joining service.

    Parameters
    ----------
    address
        ``host:port``.
    ca_certificate
        PEM of the only authority that is believed.
    partner
        The name under which the partner speaks.
    egress_log
        Where the door writes down what is sent.
    """

    def __init__(self, address: str, ca_certificate: str, partner: str, egress_log: Path) -> None:
        self.address, self.ca_certificate = address, ca_certificate
        self.policy = door.Policy(partner=partner, purpose="join")
        self.egress_log = egress_log
        credentials = grpc.ssl_channel_credentials(ca_certificate.encode())
        options = [("grpc.max_receive_message_length", _LARGEST_ANSWER), ("grpc.enable_http_proxy", 0)]
        self._channel = grpc.secure_channel(address, credentials, options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def describe(self, secret: str) -> joining.Offer:
        """Read what the federation offers to whoever holds an invitation (errors: as :meth:`ask`)."""
        return self.ask("Describe", joining.DescribeRequest(invitation=secret), joining.Offer)

    def ask(self, method: str, request: door.Request, kind: type[Answer]) -> Answer:
        """Pass a request through the door, send it, and return the answer.

        Raises
        ------
        Refused
            The server's own code: it says no.
        ResourceError
            K826 the name is not found, K827 nobody answers, K828 it is not the federation's server.
        PrivacyError
            K650, K609 it did not pass the door.
        """
        said = door.cross(request, self.policy, self.egress_log).config_records["request"]["request"]
        call: Callable[..., Any] = self._channel.unary_unary(
            f"/koinon.v1.Joining/{method}", request_serializer=None, response_deserializer=kind.FromString
        )
        try:
            answer: Answer = call(said, timeout=ANSWER_SECONDS)
        except grpc.RpcError as error:
            check_server(self.address, self.ca_certificate)  # says which of name, port and certificate it is
            raise ResourceError(
                "K827",
                f"{self.address} does not answer as a joining service: {error.code().name}.",
                "Check the address; if it is right, ask the operator whether the server runs.",
            ) from error
        if answer.code:
            raise Refused(answer.code, answer.message)
        return answer


class Member:
    """A partner that has accepted a federation's policy, and what it asks under its member key.

    Parameters
    ----------
    folder
        The partner's folder, with ``federation/membership.toml``.

    Raises
    ------
    FederationError
        K736 the folder belongs to no federation.
    PrivacyError
        K640, K641 its keys cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.membership = Membership.of(folder)
        self.keys = Keys(folder)
        said = self.membership
        log = folder / "federation" / "egress.jsonl"
        self.service = JoiningService(said.join_address, said.ca_certificate, said.partner, log)
        self._last_ms = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.service.__exit__()

    def describe(self) -> joining.Offer:
        """Read what the federation's policy is now (errors: as :meth:`JoiningService.ask`)."""
        return self._signed("Describe", joining.DescribeRequest(), joining.Offer)

    def apply(self, secret: str) -> joining.Standing:
        """Ask for membership, with public keys and the accepted policy's hash."""
        said = joining.Application(
            invitation=secret,
            node_key=self.keys.node_public,
            member_key=self.keys.member_public,
            policy_sha256=self.membership.policy_sha256,
            code_sha256=self.membership.code_sha256,
            koinon_version=self.membership.koinon_version,
        )
        return self._signed("Apply", said, Standing)

    def standing(self, *, accepted: str = "") -> joining.Standing:
        """Ask for the own standing; ``accepted`` states the policy that is accepted from now on."""
        return self._signed("Ask", joining.StandingRequest(policy_sha256=accepted), Standing)

    def leave(self, *, forget: bool) -> joining.Standing:
        """End the membership; the keys and what was accepted are removed from the folder, its data and models stay.

        Where the federation has ended the membership before, only the folder is cleared.
        """
        try:
            answer = self._signed("Leave", joining.LeaveRequest(forget=forget), Standing)
        except Refused:
            answer = self.standing()
            if answer.state not in OVER:
                raise
        clear(self.folder)
        return answer

    def rotate(self) -> joining.Standing:
        """Change the node's key; a node that runs must be started again. After a kill the same key is offered again."""
        request = joining.RotateRequest(node_key=self.keys.next_node_public())
        try:
            answer = self._signed("RotateKey", request, Standing)
        except Refused as refused:
            if refused.code != "K751":  # known there already: the answer to an earlier try was lost
                raise
            answer = self.standing()
        self.keys.take_next()
        return answer

    def accept(self, offer: joining.Offer) -> joining.Standing:
        """Pin what is offered now (policy, code, app), and tell the federation that its policy is accepted."""
        said = self.membership
        fresh = _accepted(offer, said.federation, said.partner, said.join_address, said.ca_certificate)
        if offer.ledger_key != said.ledger_key:
            raise _contradicts("it signs with another key than when you joined")
        self.membership = fresh.model_copy(update={"invitation_sha256": said.invitation_sha256})
        self.membership.save(self.folder)
        return self.standing(accepted=self.membership.policy_sha256)

    def wait(self, seconds: float, tell: Callable[[joining.Standing], None]) -> joining.Standing:
        """Ask until the operator has decided.

        Raises
        ------
        FederationError
            K737 no decision in that time; the code of a standing that ends it.
        """
        deadline = time.monotonic() + seconds
        pause = 0.5
        while True:
            answer = self.standing()
            if answer.state == Standing.APPROVED:
                return answer
            if answer.state != Standing.APPLIED:
                raise ended(answer)
            if time.monotonic() + pause > deadline:
                raise FederationError(
                    "K737",
                    f"The operator has not approved {self.membership.partner} yet.",
                    "The same command goes on waiting; nothing is lost.",
                )
            tell(answer)
            time.sleep(pause)
            pause = min(2 * pause, 15.0)

    def _signed(self, method: str, request: Any, kind: type[Answer]) -> Answer:
        self._last_ms = max(time.time_ns() // 1_000_000, self._last_ms + 1)
        request.partner = self.membership.partner
        request.federation = self.membership.ledger_key
        request.time_ms = self._last_ms
        sign(request, self.keys.member)
        return self.service.ask(method, request, kind)


def ended(answer: joining.Standing) -> Refused:
    """Say why a standing allows nothing."""
    state = Standing.State.Name(answer.state).lower()
    return Refused(answer.code, f"{answer.message or 'membership'} ({state})")


def read_invitation(said: str) -> Invitation:
    """Read an invitation, given as the line itself or as the name of a file that holds it.

    Raises
    ------
    FederationError
        K732, K733 as :meth:`koinon.protos.invitation.Invitation.decode`.
    """
    if os.path.isfile(said):  # unlike Path's, false for a name that is too long to be one
        said = Path(said).read_text(encoding="utf-8", errors="replace")
    return Invitation.decode(said)


def join(invitation: Invitation, folder: Path, consent: Callable[[joining.Offer], None]) -> joining.Standing:
    """Apply for membership, or find out what became of an application made before.

    Parameters
    ----------
    invitation
        As the operator handed it over.
    folder
        The partner's folder.
    consent
        Shown what is offered; raises where the partner's operator does not accept it. Not called again after that.

    Raises
    ------
    FederationError
        K735 the folder belongs to another federation; the server's own codes.
    PrivacyError
        K645 the offer contradicts the invitation or itself, K642, K643 it asks for other code; what ``consent`` raises.
    ResourceError
        K826-K828 the server cannot be reached.
    """
    folder = folder.resolve()
    resumed = _accepted_before(invitation, folder)
    if not resumed:
        log = folder / "federation" / "egress.jsonl"
        with JoiningService(invitation.address, invitation.ca_certificate, invitation.partner, log) as service:
            offer = service.describe(invitation.secret)
        consent(offer)
        fresh = _accepted(
            offer, invitation.federation, invitation.partner, invitation.address, invitation.ca_certificate
        )
        Keys.make(folder)
        fresh.model_copy(update={"invitation_sha256": invitation.secret_sha256}).save(folder)
    with Member(folder) as member:
        if resumed:
            try:
                return member.standing()
            except Refused as refused:
                if refused.code != "K755":  # the server does not know this key: the application never arrived
                    raise
        return member.apply(invitation.secret)


def clear(folder: Path) -> None:
    """Remove a membership's keys and pins from a partner's folder."""
    Membership.file(folder).unlink(missing_ok=True)
    shutil.rmtree(folder / "federation" / "keys", ignore_errors=True)


def _accepted_before(invitation: Invitation, folder: Path) -> bool:
    """Whether this invitation's offer was accepted in this folder; a membership that has ended makes room."""
    if not Membership.file(folder).exists():
        return False
    with Member(folder) as member:
        said = member.membership
        if said.invitation_sha256 == invitation.secret_sha256:
            return True
        try:
            over = member.standing().state in OVER
        except (Refused, ResourceError):
            over = False
    if not over:
        raise FederationError(
            "K735",
            f"{folder} belongs to the federation {said.federation}, as {said.partner}.",
            f"`koinon partner leave {folder}` first, or join with another folder.",
        )
    clear(folder)
    return False


def check_offer(offer: joining.Offer, federation: str, partner: str) -> None:
    """Raise ``PrivacyError`` K645 if an offer is for somebody else or states another policy than its hash."""
    if offer.policy_sha256 != policy_sha256(offer.policy):
        raise _contradicts("its policy is not the one of its hash")
    if (offer.policy.federation, offer.partner) != (federation, partner):
        raise _contradicts(f"it is for {offer.partner} in {offer.policy.federation}, not {partner} in {federation}")


def _accepted(offer: joining.Offer, federation: str, partner: str, address: str, ca_certificate: str) -> Membership:
    """What accepting an offer pins, once the offer holds together."""
    check_offer(offer, federation, partner)
    pinning.check_code(offer.code_sha256)
    pinning.check_app(offer.app_sha256)
    try:
        return Membership(
            federation=federation,
            partner=partner,
            join_address=address,
            fleet_address=offer.fleet_address,
            ca_certificate=ca_certificate,
            invitation_sha256="0" * 64,
            policy=base64.b64encode(offer.policy.SerializeToString(deterministic=True)).decode(),
            policy_sha256=offer.policy_sha256,
            ledger_key=offer.ledger_key,
            code_sha256=pinning.code_sha256(),
            app_sha256=offer.app_sha256,
            encoder_sha256=offer.encoder_sha256,
            koinon_version=version("koinon"),
            flower_version=version("flwr"),
            accepted=datetime.now(UTC).replace(microsecond=0),
        )
    except ValueError as error:
        raise _contradicts("a field of it is none") from error


def _contradicts(what: str) -> PrivacyError:
    return PrivacyError(
        "K645", f"The federation's offer does not hold together: {what}.", "Do not join; ask the operator."
    )
