"""What a ledger records: each kind of entry and the fields its body has.

A body holds only what is declared here: hashes, counts, codes, names of members. There is no field that could hold what
a person did, or a free text into which somebody might write it. The members of a federation know each other's names;
who took part in a single round is named only where the policy lets it be known.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from koinon.errors import FederationError

__all__ = ["BODIES", "Kind", "checked_body", "checked_subject"]

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9_-]{0,62})$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Code = Annotated[str, Field(pattern=r"^K\d{3}$")]
Count = Annotated[int, Field(ge=0)]
Number = Annotated[int, Field(ge=1)]
Time = Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{3})?Z$")]
Version = Annotated[str, Field(pattern=r"^[0-9A-Za-z.+!_-]{1,40}$")]
Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{43}=$")]
Reason = Literal["operator", "policy", "key", "anomaly", "harm", "request"]
"""Why a decision was taken: by the operator's own judgement, for a breach of the policy, for a key that can no longer
be trusted, for anomalous updates, for harm on validation data, at the partner's request."""


class Kind(StrEnum):
    """What happened. The subject is the federation, a partner, or a learner."""

    FEDERATION_CREATED = "federation_created"
    POLICY_CHANGED = "policy_changed"
    POLICY_ACCEPTED = "policy_accepted"
    INVITED = "invited"
    REVOKED = "revoked"
    APPLIED = "applied"
    APPROVED = "approved"
    REJECTED = "rejected"
    SUSPENDED = "suspended"
    REMOVED = "removed"
    LEFT = "left"
    KEY_ROTATED = "key_rotated"
    RUN_STARTED = "run_started"
    ROUND_FINISHED = "round_finished"
    RELEASE_PUBLISHED = "release_published"
    RELEASE_ROLLED_BACK = "release_rolled_back"
    ERASURE_REACHED = "erasure_reached"
    PRIVACY_CHARGE = "privacy_charge"
    ANOMALY = "anomaly"
    REFUSAL = "refusal"
    AUDIT_RECORD = "audit_record"
    AUDIT_PLAN = "audit_plan"
    AUDIT = "audit"


class Body(BaseModel):
    """What an entry of a kind says. Unknown fields are refused, and so is a value of another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class FederationCreated(Body):
    """The first entry of every ledger. Subject: the federation."""

    key: Key
    """The public key that signs this ledger, base64."""
    policy_sha256: Sha256


class PolicyChanged(Body):
    """Subject: the federation."""

    before_sha256: Sha256
    policy_sha256: Sha256


class PolicyAccepted(Body):
    """A member accepts a policy that was changed after it had joined. Subject: the partner."""

    policy_sha256: Sha256


class Invited(Body):
    """Subject: the partner's name."""

    invitation_sha256: Sha256
    """Of the token, which itself is told to nobody but the invited."""
    expires: Time


class Revoked(Body):
    """An invitation is worth nothing any more. Subject: the partner's name."""

    invitation_sha256: Sha256


class Applied(Body):
    """Subject: the partner."""

    node_key_sha256: Sha256
    member_key_sha256: Sha256
    policy_sha256: Sha256
    code_sha256: Sha256
    koinon_version: Version


class Approved(Body):
    """Subject: the partner."""

    node_key_sha256: Sha256


class Decided(Body):
    """A rejection, a suspension, a removal. Subject: the partner."""

    reason: Reason


class Left(Body):
    """Subject: the partner."""

    forget: bool
    """Whether what its catalogue brought is dropped too."""


class KeyRotated(Body):
    """Subject: the partner whose key it is."""

    before_sha256: Sha256
    key_sha256: Sha256


class RunStarted(Body):
    """Subject: the federation."""

    run: Name
    policy_sha256: Sha256
    partners: Count
    resumed: bool


class RoundFinished(Body):
    """Subject: the learner."""

    run: Name
    round: Number
    participants: Count
    names: list[Name] | None = None
    """Who took part, where the policy lets it be known."""
    left_out: dict[Code, Number] = Field(default_factory=dict)
    """Codes of those left out, and how many each."""


class ReleasePublished(Body):
    """Subject: the learner."""

    number: Number
    round: Count
    manifest_sha256: Sha256
    participants: Count


class ReleaseRolledBack(Body):
    """Subject: the learner."""

    number: Number
    manifest_sha256: Sha256
    back_to: Count
    """Number of the release that counts from now on; 0: none."""
    reason: Reason


class ErasureReached(Body):
    """A person was forgotten at a partner; releases from this one on know nothing of it. Subject: the partner."""

    release: Count


class PrivacyCharge(Body):
    """Subject: the partner whose account is charged."""

    purpose: Name
    epsilon: float = Field(ge=0)
    """Of this charge."""
    spent: float = Field(ge=0)
    """The account's total after it."""
    delta: float = Field(ge=0, lt=1)


class Anomaly(Body):
    """Something that an operator should look at. Subject: the partner, or the federation where it stays unnamed."""

    run: Name
    learner: Name | None = None
    """Nothing where the run as a whole is meant."""
    round: Number | None = None
    """Nothing where what the run has brought is meant."""
    code: Code


class Refusal(Body):
    """Something was asked for and refused. Subject: the name it was asked under, or ``unknown``."""

    action: Name
    code: Code


class AuditRecord(Body):
    """The first entry of a record that an auditor keeps outside any federation. Subject: the audit's name."""

    key: Key
    """The public key that signs this record, base64."""


class AuditPlan(Body):
    """A fairness audit was planned; nothing is computed before. Subject: the audit's name."""

    plan_sha256: Sha256


class Audit(Body):
    """A fairness audit was run. Subject: the audit's name."""

    plan_sha256: Sha256
    report_sha256: Sha256
    """Of its ``results.json``."""


BODIES: dict[Kind, type[Body]] = {
    Kind.FEDERATION_CREATED: FederationCreated,
    Kind.POLICY_CHANGED: PolicyChanged,
    Kind.POLICY_ACCEPTED: PolicyAccepted,
    Kind.INVITED: Invited,
    Kind.REVOKED: Revoked,
    Kind.APPLIED: Applied,
    Kind.APPROVED: Approved,
    Kind.REJECTED: Decided,
    Kind.SUSPENDED: Decided,
    Kind.REMOVED: Decided,
    Kind.LEFT: Left,
    Kind.KEY_ROTATED: KeyRotated,
    Kind.RUN_STARTED: RunStarted,
    Kind.ROUND_FINISHED: RoundFinished,
    Kind.RELEASE_PUBLISHED: ReleasePublished,
    Kind.RELEASE_ROLLED_BACK: ReleaseRolledBack,
    Kind.ERASURE_REACHED: ErasureReached,
    Kind.PRIVACY_CHARGE: PrivacyCharge,
    Kind.ANOMALY: Anomaly,
    Kind.REFUSAL: Refusal,
    Kind.AUDIT_RECORD: AuditRecord,
    Kind.AUDIT_PLAN: AuditPlan,
    Kind.AUDIT: Audit,
}
"""What the body of each kind holds."""


class _Subject(BaseModel):
    subject: Name


def checked_subject(subject: str) -> str:
    """Return a subject that is a name.

    Raises
    ------
    FederationError
        K774 it is none.
    """
    try:
        return _Subject(subject=subject).subject
    except ValidationError as error:
        raise _refused("the subject is no name") from error


def checked_body(kind: Kind, body: dict[str, Any]) -> dict[str, Any]:
    """Return a body as it is recorded.

    Raises
    ------
    FederationError
        K774 a field is missing, unknown or of another form than declared.
    """
    try:
        return BODIES[kind].model_validate(body).model_dump(mode="json", exclude_none=True)
    except ValidationError as error:
        first = error.errors()[0]
        raise _refused(f"{kind}.{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _refused(why: str) -> FederationError:
    return FederationError("K774", f"This must not go on record: {why}.", "A body holds its declared fields alone.")
