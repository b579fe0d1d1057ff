"""Asking a federation's partners for an audit: a round like any other, with the plan as its policy."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from koinon.config import write_atomically
from koinon.errors import EvaluationError, FederationError, PrivacyError
from koinon.fairness.conduct import enter
from koinon.fairness.federated.drafting import draft_federated
from koinon.fairness.federated.judging import judge_totals
from koinon.fairness.federated.layout import Layout
from koinon.fairness.federated.rounds import QUESTION
from koinon.fairness.federated.totals import TOTALS_FILE, Totals, totals_of
from koinon.fairness.plan import PLAN_FILE, AuditPlan, FederatedPlan
from koinon.fairness.record import Record, enter_report
from koinon.fairness.report import write_report
from koinon.fairness.results import Answered, AuditResults, Spent
from koinon.privacy.budget import PrivacyConfig, spent
from koinon.recommenders.federated.budgeting import prices
from koinon.server.auditing_members import check_offered, created, members_of
from koinon.server.checkpoints import Checkpoint, Checkpoints
from koinon.server.federation import FederationConfig, Mode
from koinon.server.launcher import run_federation, run_hosted
from koinon.server.place import Place

__all__ = ["ASKED", "conduct_federated", "federation_to_ask", "plan_federated"]

ASKED = "federation"
"""Folder within the audit's, for the round's own state, ledger and signed total."""

_REFUSED = re.compile(r"([a-z0-9-]+) \((K[1-6]\d\d)\)")
"""A partner that had a reason; codes above are those of one that was late or gone."""


def plan_federated(
    folder: Path, name: str, file: Path, released: Path, *, gains: bool = True, **choices: Any
) -> AuditPlan:
    """Propose a plan for a federation whose partners' folders are on this machine, and what it has released.

    Parameters
    ----------
    folder
        Where the plan will lie.
    name
        Of the audit.
    file
        The federation's file.
    released
        Output folder of its run, or the folder of a created federation.
    gains, choices
        As in a plan, and for :func:`koinon.fairness.federated.drafting.draft_federated`.

    Raises
    ------
    KoinonError
        As :meth:`FederationConfig.load`, :meth:`koinon.server.place.Place.find` and ``draft_federated``.
    """
    config = FederationConfig.load(file)
    config.check_folders()
    with Place.find(released).books() as (_, books):
        newest = {learner.name: books.last_good(learner.name) for learner in config.learners}
    releases = {learner: listed.sha256 for learner, listed in newest.items() if listed is not None}
    where = os.path.relpath(file.resolve(), folder.resolve())
    federated = FederatedPlan(file=where, policy_sha256=config.policy_sha256(), gains=gains)
    return draft_federated(name, config.partners, federated, releases, **choices)


def conduct_federated(
    folder: Path,
    record: Record,
    kind: Literal["local", "federation"] = "local",
    *,
    mode: Mode = "simulation",
    say: Callable[[str], None] = lambda _: None,
) -> AuditResults:
    """Enter a folder's plan, ask the federation's partners once, and write and enter the report.

    What they answered is kept in ``totals.json``. As long as it is there and of this plan nobody is asked again: a
    second answer would be charged a second time.

    Parameters
    ----------
    folder
        Holds ``plan.toml``.
    record, kind
        Where the plan is entered.
    mode
        How the partners run, as in :func:`koinon.server.run_federation`.
    say
        Told each step in one line.

    Raises
    ------
    ConfigError
        K101-K103 plan or federation cannot be read.
    EvaluationError
        K514 the members of a created federation have not been asked to accept the audit; K528, K532 as
        :func:`koinon.fairness.conduct.enter`; K522-K524 as
        :func:`koinon.fairness.federated.totals.totals_of`; K551, K552 as :func:`federation_to_ask`; K553 a partner has
        refused, the message says with which code. Then no result is written.
    PrivacyError
        K676, K677 as :func:`federation_to_ask`.
    FederationError
        As :func:`koinon.server.run_federation` and :func:`koinon.server.launcher.run_hosted`.
    """
    began = time.monotonic()
    plan, plan_sha256, recorded = enter(folder, record, kind)
    path = folder / TOTALS_FILE
    if path.is_file() and (kept := Totals.read(path)).plan_sha256 == plan_sha256:
        say("judging what was answered before")
        totals = kept
    else:
        config = federation_to_ask(folder, plan, plan_sha256)
        home = created(folder, plan)
        say(f"asking {len(config.partners)} partners")
        if home is None:
            out = folder / ASKED
            checkpoint = _asked(lambda: run_federation(config, out, mode), out, plan)
        else:
            check_offered(home, config)
            checkpoint = _asked(lambda: run_hosted(home), home.out, plan)
        totals = _totals(plan, plan_sha256, config, checkpoint)
        write_atomically(path, totals.to_json())
    results = judge_totals(plan, recorded, totals, seconds=time.monotonic() - began)
    enter_report(record, plan.name, plan_sha256, write_report(folder, results))
    return results


def federation_to_ask(folder: Path, plan: AuditPlan, plan_sha256: str) -> FederationConfig:
    """Return the federation of a plan, with the audit in place of its learners.

    Raises
    ------
    ConfigError
        K101-K103 its file cannot be read, K110 a partner's folder is none.
    EvaluationError
        K550 the plan is not the one of the hash, K551 a source is none of its partners, K552 its members have agreed on
        something else since the audit was planned.
    PrivacyError
        K676 the audit wants more than is kept for audits, K677 neither secure sums nor noise would protect the
        partners' sums.
    """
    assert plan.federated is not None
    home = created(folder, plan)
    if home is None:
        config = FederationConfig.load(folder / plan.federated.file)
        config.check_folders()
    else:
        config = members_of(home)
    if config.policy_sha256() != plan.federated.policy_sha256:
        raise EvaluationError(
            "K552",
            f"The policy of {config.name} is another one than when the audit was planned.",
            "Plan another audit under the policy that holds now.",
        )
    if unknown := [name for name in plan.data.sources if name not in config.partners]:
        raise EvaluationError("K551", f"{config.name} has no partner {unknown[0]!r}.", "Plan the audit anew.")
    secure = config.aggregation == "secure"
    privacy = config.privacy or _own_budget(plan, secure=secure)
    if privacy is None and not secure:
        raise PrivacyError(
            "K677",
            "The server would see each partner's groups in the clear.",
            'Set aggregation = "secure" in the federation, or give the plan a `privacy` budget.',
        )
    text = (folder / PLAN_FILE).read_text(encoding="utf-8")
    partners = {name: config.partners[name] for name in plan.data.sources}
    asking = config.asking(QUESTION, {"plan": text, "plan_sha256": plan_sha256}, privacy, partners)
    if privacy is not None:
        prices(privacy, {QUESTION: asking.learners[0].settings}, plan.data.sources[0])
    return asking


def _own_budget(plan: AuditPlan, *, secure: bool) -> PrivacyConfig | None:
    """The plan's own budget, where the federation has none."""
    if plan.privacy is None:
        return None
    return PrivacyConfig(
        **plan.privacy.model_dump(),
        partners=len(plan.data.sources),
        mechanism="distributed" if secure else "local",
        audits=1.0,
    )


def _asked(ask: Callable[[], object], out: Path, plan: AuditPlan) -> Checkpoint:
    """Ask, and return what came of it; a partner of the plan that had a reason not to answer ends the audit."""
    try:
        ask()
    except FederationError as error:
        _check_refusals(dict(_REFUSED.findall(error.message)), error)
        raise
    checkpoint = Checkpoints(out).load(QUESTION)
    assert checkpoint is not None
    refused = {p: code for p, code in checkpoint.left_out.items() if code < "K7" and p in plan.data.sources}
    _check_refusals(refused)
    return checkpoint


def _check_refusals(codes: dict[str, str], cause: Exception | None = None) -> None:
    if codes:
        named = ", ".join(f"{partner} ({code})" for partner, code in sorted(codes.items()))
        raise EvaluationError(
            "K553",
            f"The audit was refused by {named}; there is no report without them.",
            "docs/errors.md says what the codes mean; the partner's federation/errors.log says more.",
        ) from cause


def _totals(plan: AuditPlan, plan_sha256: str, config: FederationConfig, checkpoint: Checkpoint) -> Totals:
    release = checkpoint.release
    arrays: dict[str, NDArray[np.float64]] = {name: array.astype(np.float64) for name, array in release.arrays.items()}
    noise = {
        name.removeprefix("noise/"): float(value) for name, value in release.info.items() if name.startswith("noise/")
    }
    answered = [Answered(partner=name, code=None) for name in checkpoint.participants]
    missing = {name: code for name, code in checkpoint.left_out.items() if name in plan.data.sources}
    answered += [Answered(partner=name, code=code) for name, code in sorted(missing.items())]
    if config.anonymous:
        answered = [one.model_copy(update={"partner": None}) for one in answered]
    return totals_of(
        Layout(plan),
        arrays,
        plan_sha256=plan_sha256,
        policy_sha256=config.policy_sha256(),
        federation=config.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        secure=config.aggregation == "secure",
        partners=answered,
        privacy=None if config.privacy is None else _spent(config, config.privacy, noise),
    )


def _spent(config: FederationConfig, privacy: PrivacyConfig, noise: dict[str, float]) -> Spent:
    learners = {learner.name: learner.settings for learner in config.learners}
    price = prices(privacy, learners, next(iter(config.partners)))[QUESTION, 1]
    return Spent(
        epsilon=spent(price.events, privacy.delta),
        delta=privacy.delta,
        budget=privacy.epsilon,
        mechanism=privacy.mechanism,
        safe=privacy.safe,
        noise=noise,
    )
