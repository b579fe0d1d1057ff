"""Audits of a created federation: its members accept an audit as they accept any policy, on record, and are asked.

While an audit is on offer it *is* the policy: a node that was started for it answers the audit's question and nothing
else, and one that was not answers nothing (K611). What the members had agreed on before lies beside it, and comes back
with :func:`withdraw_audit`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from koinon.config import write_atomically
from koinon.errors import EvaluationError
from koinon.fairness.federated.drafting import draft_hosted
from koinon.fairness.federated.rounds import QUESTION
from koinon.fairness.plan import PLAN_FILE, AuditPlan, FederatedPlan
from koinon.server.federation import FederationConfig, Terms
from koinon.server.membership import FederationHome
from koinon.server.membership.home import in_full
from koinon.server.membership.policy import change_policy, open_registry
from koinon.server.membership.records import State
from koinon.server.place import Place

__all__ = ["check_offered", "created", "members_of", "plan_hosted", "propose_audit", "usual_terms", "withdraw_audit"]

BEFORE = "federation.before-audit.toml"
"""What the members had agreed on before an audit was offered; beside the policy."""


def created(folder: Path, plan: AuditPlan) -> FederationHome | None:
    """The created federation that a plan is of; ``None`` where it is one that runs from a file."""
    assert plan.federated is not None
    home = folder / plan.federated.file
    return FederationHome(home) if home.is_dir() else None


def usual_terms(home: FederationHome) -> Terms:
    """What the members agree on when no audit is on offer."""
    before = home.folder / BEFORE
    return Terms.from_toml(before) if before.is_file() else home.terms()


def members_of(home: FederationHome) -> FederationConfig:
    """The federation under its usual terms, with its approved members as partners.

    Raises
    ------
    ConfigError
        K103 they are fewer than the policy's minimum.
    """
    with open_registry(home) as registry:
        names = sorted(member.name for member in registry.members() if member.state is State.APPROVED)
    described = {**dict(usual_terms(home)), "partners": {name: Path(name) for name in names}}
    return FederationConfig.from_dict(described, source=str(home.policy_file))


def plan_hosted(
    folder: Path,
    name: str,
    federation: Path,
    *,
    groups: Mapping[str, Sequence[str]],
    gains: bool = True,
    **choices: Any,
) -> AuditPlan:
    """Propose a plan for a created federation and what it has released; it is entered in the federation's ledger.

    Parameters
    ----------
    folder
        Where the plan will lie.
    name
        Of the audit.
    federation
        The federation's folder.
    groups
        Attribute to the values that all partners count: nobody here can look at theirs.
    gains, choices
        As in a plan, and for :func:`koinon.fairness.federated.drafting.draft_hosted`.

    Raises
    ------
    ConfigError
        K103 there are too few approved members, or what was asked for is no plan; K112 there is no federation.
    """
    home = FederationHome(federation)
    config = members_of(home)
    with Place.find(home.folder).books() as (_, books):
        newest = {learner.name: books.last_good(learner.name) for learner in config.learners}
    releases = {learner: listed.sha256 for learner, listed in newest.items() if listed is not None}
    where = os.path.relpath(home.folder, folder.resolve())
    federated = FederatedPlan(file=where, policy_sha256=config.policy_sha256(), gains=gains)
    given = {**choices, "record": choices.get("record") or where}
    return draft_hosted(name, list(config.partners), federated, releases, groups=groups, **given)


def propose_audit(folder: Path) -> str:
    """Offer an audit to the federation's members, in place of the policy they have accepted; it goes on record.

    Each of them reads it with ``koinon partner accept``, line by line, before its node answers.

    Parameters
    ----------
    folder
        Holds ``plan.toml`` of a created federation.

    Returns
    -------
    SHA-256 (hex) of the policy on offer.

    Raises
    ------
    EvaluationError
        K515 another audit is on offer, or the plan is of no created federation; K551, K552 as
        :func:`koinon.server.auditing.federation_to_ask`.
    PrivacyError
        K676, K677 likewise.
    """
    home, asking = _asking(folder)
    offered = home.terms()
    if offered.policy_sha256() == asking.policy_sha256():
        return asking.policy_sha256()
    if (home.folder / BEFORE).is_file():
        raise EvaluationError(
            "K515", "Another audit is on offer to the members.", "`koinon audit withdraw` that one first."
        )
    write_atomically(home.folder / BEFORE, in_full(offered))
    with open_registry(home) as registry:
        change_policy(home, registry, asking)
    return asking.policy_sha256()


def withdraw_audit(folder: Path) -> str:
    """Give the members their usual policy back; they accept it once more. Its SHA-256 (hex) is returned.

    Raises
    ------
    EvaluationError
        K515 the plan is of no created federation.
    """
    home, _ = _home_of(folder)
    terms = usual_terms(home)
    with open_registry(home) as registry:
        change_policy(home, registry, terms)
    (home.folder / BEFORE).unlink(missing_ok=True)
    return terms.policy_sha256()


def check_offered(home: FederationHome, asking: FederationConfig) -> None:
    """Raise ``EvaluationError`` K514 unless the audit is what the federation's members are asked to accept."""
    if home.terms().policy_sha256() != asking.policy_sha256():
        raise EvaluationError(
            "K514",
            f"The members of {asking.name} have not been asked to accept this audit.",
            "`koinon audit propose DIR`; then each member's `koinon partner accept`.",
        )


def _home_of(folder: Path) -> tuple[FederationHome, tuple[AuditPlan, str]]:
    plan, sha256 = AuditPlan.read(folder / PLAN_FILE)
    home = None if plan.federated is None else created(folder, plan)
    if home is None:
        raise EvaluationError(
            "K515", f"{folder} plans no audit of a created federation.", "There is nobody to offer it to."
        )
    return home, (plan, sha256)


def _asking(folder: Path) -> tuple[FederationHome, Terms]:
    from koinon.server.auditing import federation_to_ask

    home, (plan, sha256) = _home_of(folder)
    asking = federation_to_ask(folder, plan, sha256)
    assert asking.learners[0].name == QUESTION
    named = {name: value for name, value in dict(asking).items() if name in Terms.model_fields}
    return home, Terms.model_validate(named)
