"""Who is invited, who is a member, and in what standing; every change is one transaction with its ledger entry.

::

    invited ──▶ applied ──▶ approved ◀──▶ suspended
       ▲           │  └▶ rejected │            │
       │           └──────┬───────┴────────────┤
       │                  ▼                    ▼
       └───────────── left, removed, rejected ◀┘        (may be invited again, with new keys)

The registry knows nothing of the network: it says yes, or raises with the code that goes on record.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from datetime import datetime, timedelta

import sqlalchemy as sql
from sqlalchemy.orm import Session

from koinon.errors import FederationError
from koinon.privacy.ledger.kinds import Kind, Reason
from koinon.protos.invitation import new_secret, secret_sha256
from koinon.server.membership.home import Node
from koinon.server.membership.records import (
    LONGEST_NAME,
    NAME,
    OVER,
    Applicant,
    InvitationRow,
    Invited,
    Member,
    MemberRow,
    SpentKey,
    State,
    invited_of,
    iso,
    key_sha256,
    member_of,
    now,
)
from koinon.server.state import LedgerBook

__all__ = ["Registry", "in_standing", "unknown"]


_MOVES: Mapping[tuple[State, State], Kind] = {  # the operator's; leaving is the member's own
    (State.APPLIED, State.APPROVED): Kind.APPROVED,
    (State.APPLIED, State.REJECTED): Kind.REJECTED,
    (State.APPROVED, State.SUSPENDED): Kind.SUSPENDED,
    (State.SUSPENDED, State.APPROVED): Kind.APPROVED,
    (State.APPLIED, State.REMOVED): Kind.REMOVED,
    (State.APPROVED, State.REMOVED): Kind.REMOVED,
    (State.SUSPENDED, State.REMOVED): Kind.REMOVED,
}


class Registry:
    """Invitations and members.

    Parameters
    ----------
    book
        The ledger, in the same database.
    """

    def __init__(self, book: LedgerBook) -> None:
        self.book = book
        self.store = book.store

    # what the operator does

    def invite(self, partner: str, *, days: float) -> tuple[str, datetime]:
        """Invite a partner; an earlier invitation under the same name that is still open is revoked.

        Returns
        -------
        secret, expires
            The secret is nowhere but in what is returned.

        Raises
        ------
        FederationError
            K764 there is a member of that name, or it is no name.
        """
        if not NAME.fullmatch(partner) or len(partner) > LONGEST_NAME:
            raise _impossible(f"{partner!r} is no name: lower case, digits, hyphens.")
        secret, created = new_secret(), now()
        expires = created + timedelta(days=days)
        with self.store.session() as session:
            row = session.get(MemberRow, partner)
            if row is not None and State(row.state) not in OVER:
                raise _impossible(f"{partner} is a member already ({row.state}).")
            self._revoke_in(session, partner)
            session.add(
                InvitationRow(
                    secret_sha256=secret_sha256(secret),
                    partner=partner,
                    created=iso(created),
                    expires=iso(expires),
                    ended="",
                )
            )
            self.book.append_in(
                session, Kind.INVITED, partner, invitation_sha256=secret_sha256(secret), expires=iso(expires)
            )
        return secret, expires

    def revoke(self, partner: str) -> None:
        """Revoke a partner's open invitation.

        Raises
        ------
        FederationError
            K764 there is none.
        """
        with self.store.session() as session:
            if not self._revoke_in(session, partner):
                raise _impossible(f"There is no open invitation for {partner}.")

    def approve(self, partner: str) -> Member:
        """Admit an applicant.

        Raises
        ------
        FederationError
            K758 there is no such member, K764 its standing does not allow it; so for the four that follow.
        """
        return self._move(partner, State.APPROVED, only_from=State.APPLIED)

    def reject(self, partner: str, reason: Reason = "operator") -> Member:
        """Turn an applicant down."""
        return self._move(partner, State.REJECTED, reason)

    def suspend(self, partner: str, reason: Reason = "operator") -> Member:
        """Keep a member's node out for a while."""
        return self._move(partner, State.SUSPENDED, reason)

    def resume(self, partner: str) -> Member:
        """Let a suspended member take part again."""
        return self._move(partner, State.APPROVED, only_from=State.SUSPENDED)

    def remove(self, partner: str, reason: Reason = "operator") -> Member:
        """End a membership."""
        return self._move(partner, State.REMOVED, reason)

    # what partners ask for

    def invitation(self, secret: str) -> Invited:
        """Return the open invitation that a secret belongs to.

        Raises
        ------
        FederationError
            K745 there is none, K746 it has expired, K747 it was used, K748 it was revoked.
        """
        with self.store.reading() as session:
            return self._open_invitation(session, secret)

    def apply(self, secret: str, applicant: Applicant) -> Member:
        """Use up an invitation: from now on the applicant has a standing.

        Raises
        ------
        FederationError
            K745-K748 as :meth:`invitation`, K749 the invitation is for another name, K751 the key was seen before.
        """
        with self.store.session() as session:
            invited = self._open_invitation(session, secret)
            if invited.partner != applicant.partner:
                raise FederationError(
                    "K749", "The invitation is for another name.", "Apply under the name that the invitation says."
                )
            self._check_fresh(session, applicant.partner, applicant.node_key)
            row = session.get(MemberRow, applicant.partner) or MemberRow(name=applicant.partner)
            row.node_key, row.member_key = applicant.node_key, applicant.member_key
            row.policy_sha256, row.code_sha256 = applicant.policy_sha256, applicant.code_sha256
            row.koinon_version, row.last_time_ms = applicant.koinon_version, applicant.time_ms
            row.state, row.since, row.node_id = State.APPLIED, iso(now()), ""
            session.add(row)
            session.get_one(InvitationRow, invited.secret_sha256).ended = "used"
            self.book.append_in(
                session,
                Kind.APPLIED,
                applicant.partner,
                node_key_sha256=key_sha256(applicant.node_key),
                member_key_sha256=key_sha256(applicant.member_key),
                policy_sha256=applicant.policy_sha256,
                code_sha256=applicant.code_sha256,
                koinon_version=applicant.koinon_version,
            )
            return member_of(row)

    def heard(self, partner: str, time_ms: int) -> Member:
        """Note the time that a member's (verified) request states; a request is heard once.

        Raises
        ------
        FederationError
            K757 a request of that time, or a later one, was heard before.
        """
        with self.store.session() as session:
            row = session.get_one(MemberRow, partner)
            if time_ms <= row.last_time_ms:
                raise FederationError(
                    "K757", "This request, or a later one, was heard already.", "Ask anew; each request has its time."
                )
            row.last_time_ms = time_ms
            return member_of(row)

    def accept(self, partner: str, policy_sha256: str) -> None:
        """Note that a member accepts a policy."""
        with self.store.session() as session:
            row = session.get_one(MemberRow, partner)
            if row.policy_sha256 != policy_sha256:
                row.policy_sha256 = policy_sha256
                self.book.append_in(session, Kind.POLICY_ACCEPTED, partner, policy_sha256=policy_sha256)

    def leave(self, partner: str, *, forget: bool) -> Member:
        """End a membership at the member's own wish.

        Raises
        ------
        FederationError
            K759 it has ended already.
        """
        with self.store.session() as session:
            row = session.get_one(MemberRow, partner)
            if State(row.state) in OVER:
                raise in_standing(State(row.state))
            self.book.append_in(session, Kind.LEFT, partner, forget=forget)
            self._set(session, row, State.LEFT)
            return member_of(row)

    def rotate(self, partner: str, node_key: bytes) -> Member:
        """Replace a member's node key.

        Raises
        ------
        FederationError
            K751 the key was seen before, K759 the member is suspended, or its membership has ended.
        """
        with self.store.session() as session:
            row = session.get_one(MemberRow, partner)
            if State(row.state) not in (State.APPLIED, State.APPROVED):
                raise in_standing(State(row.state))
            self._check_fresh(session, partner, node_key)
            if row.node_key == node_key:
                raise _seen_before()
            self.book.append_in(
                session,
                Kind.KEY_ROTATED,
                partner,
                before_sha256=key_sha256(row.node_key),
                key_sha256=key_sha256(node_key),
            )
            self._spend(session, row)
            row.node_key = node_key
            return member_of(row)

    def refused(self, subject: str, action: str, code: str) -> None:
        """Put a refusal on record."""
        self.book.append(Kind.REFUSAL, subject, action=action, code=code)

    # what is there

    def member(self, partner: str) -> Member:
        """Return one member.

        Raises
        ------
        FederationError
            K758 there is none of that name.
        """
        with self.store.reading() as session:
            row = session.get(MemberRow, partner)
            if row is None:
                raise unknown(partner)
            return member_of(row)

    def members(self) -> list[Member]:
        """All that ever applied, by name."""
        with self.store.reading() as session:
            return [member_of(row) for row in session.scalars(sql.select(MemberRow).order_by(MemberRow.name))]

    def invitations(self) -> list[Invited]:
        """All invitations, the newest last."""
        with self.store.reading() as session:
            chosen = sql.select(InvitationRow).order_by(InvitationRow.created, InvitationRow.partner)
            return [invited_of(row) for row in session.scalars(chosen)]

    def bind(self, partner: str, node: Node) -> None:
        """Note under which id Flower knows a member's node; nothing happens if the key is no longer the member's."""
        with self.store.session() as session:
            row = session.get(MemberRow, partner)
            if row is not None and row.node_key == node.key:
                row.node_id = str(node.id)

    def _move(self, partner: str, to: State, reason: Reason = "operator", *, only_from: State | None = None) -> Member:
        with self.store.session() as session:
            row = session.get(MemberRow, partner)
            if row is None:
                raise unknown(partner)
            come_from = State(row.state)
            kind = _MOVES.get((come_from, to))
            if kind is None or (only_from is not None and come_from is not only_from):
                raise _impossible(f"{partner} is {come_from}; it cannot become {to} from there.")
            if kind is Kind.APPROVED:
                self.book.append_in(session, kind, partner, node_key_sha256=key_sha256(row.node_key))
            else:
                self.book.append_in(session, kind, partner, reason=reason)
            self._set(session, row, to)
            return member_of(row)

    def _open_invitation(self, session: Session, secret: str) -> Invited:
        digest = secret_sha256(secret)
        row = session.get(InvitationRow, digest)
        if row is None or not hmac.compare_digest(row.secret_sha256, digest):
            raise FederationError("K745", "This invitation is not one of this server's.", "Ask its operator for one.")
        invited = invited_of(row)
        if invited.ended:
            code, said = _ENDED[invited.ended]
            raise FederationError(code, said, "Ask the operator for a new one.")
        return invited

    def _revoke_in(self, session: Session, partner: str) -> int:
        chosen = sql.select(InvitationRow).where(InvitationRow.partner == partner, InvitationRow.ended == "")
        rows = [row for row in session.scalars(chosen) if not invited_of(row).ended]
        for row in rows:
            row.ended = "revoked"
            self.book.append_in(session, Kind.REVOKED, partner, invitation_sha256=row.secret_sha256)
        return len(rows)

    def _check_fresh(self, session: Session, partner: str, node_key: bytes) -> None:
        others = sql.select(MemberRow.name).where(MemberRow.node_key == node_key, MemberRow.name != partner)
        if session.get(SpentKey, key_sha256(node_key)) or session.scalars(others).first() is not None:
            raise _seen_before()

    def _set(self, session: Session, row: MemberRow, state: State) -> None:
        row.state, row.since = state, iso(now())
        if state in OVER:
            self._spend(session, row)

    def _spend(self, session: Session, row: MemberRow) -> None:
        # also a key that has not been registered yet: the host may be about to do it
        session.merge(SpentKey(sha256=key_sha256(row.node_key)))
        row.node_id = ""


_ENDED = {
    "expired": ("K746", "The invitation has expired."),
    "used": ("K747", "The invitation was used already."),
    "revoked": ("K748", "The invitation was revoked."),
}


def unknown(partner: str) -> FederationError:
    """There is no member of that name."""
    return FederationError("K758", f"There is no member {partner}.", "`koinon federation members` lists them.")


def in_standing(state: State) -> FederationError:
    """A member asks for what its standing does not allow."""
    return FederationError("K759", f"This partner is {state}.", "Ask the operator.")


def _impossible(said: str) -> FederationError:
    return FederationError("K764", said, "`koinon federation members` shows who is in what standing.")


def _seen_before() -> FederationError:
    return FederationError("K751", "This node key was registered here before.", "Make a new one.")
