"""A first plan for an audit of a federation. Where partners' folders are at hand it looks at attributes alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from koinon.data import Tables, Vault
from koinon.errors import EvaluationError
from koinon.fairness.drafting import MINIMUM, MOST_VALUES, bands_of, is_group
from koinon.fairness.federated.partner import DEPLOYED
from koinon.fairness.plan import AuditPlan, FederatedPlan, PrivacyPlan
from koinon.fairness.subject import open_tables
from koinon.fairness.words import ReportLanguage, words_in

__all__ = ["draft_federated", "draft_hosted"]

_BANDS = (10, 50)
"""Of activity, where nobody has looked."""


def draft_federated(
    name: str,
    partners: Mapping[str, Path],
    federated: FederatedPlan,
    releases: Mapping[str, str],
    *,
    kept: str = DEPLOYED,
    attributes: Sequence[str] = (),
    tolerance: float = 0.03,
    basis: str = "",
    privacy: PrivacyPlan | None = None,
    record: str | None = None,
    language: ReportLanguage = "en",
) -> AuditPlan:
    """Propose a plan.

    Groups are the attributes that somebody declares, activity, and the partners themselves. Of an attribute the values
    with enough people over all partners are counted; whoever has another one counts as unknown. NDCG is asked over each
    with one tolerance, but not over partners, whose catalogues differ. Without noise the same is asked at equal
    activity and at equal partners, and recall and the popularity of lists are looked at as well; with noise every
    further figure would make all others less exact.

    Parameters
    ----------
    name
        Of the audit.
    partners
        Name to folder.
    federated, releases, kept
        As in a plan.
    attributes
        Default: all that anybody declares.
    tolerance, basis, privacy, record
        As in a plan.
    language
        Of the question and of the report.

    Raises
    ------
    EvaluationError
        K512 nobody declares an attribute, K525 a sensitive one without consent or basis.
    ConfigError
        K103 what was asked for is no plan.
    """
    tables: dict[str, Tables] = {}
    declared: dict[str, list[str]] = {}
    for partner, folder in partners.items():
        mine = Vault.open(folder).config.attributes
        wanted = tuple(column for column in mine if column in attributes or not attributes)
        tables[partner] = open_tables(str(folder.resolve()), Path(), wanted, basis)
        for column in wanted:
            declared.setdefault(column, []).append(partner)
    if missing := [attribute for attribute in attributes if attribute not in declared]:
        raise EvaluationError("K512", f"No partner declares {missing[0]!r}.", f"Declared: {', '.join(declared)}.")
    groups = [group for column, at in declared.items() if (group := _group(column, at, tables))]
    if bands := bands_of(list(tables.values())):
        groups.append({"name": "activity", "by": "activity", "bands": bands, "small": "withhold"})
    return _drafted(
        name, list(partners), groups, federated, releases, kept=kept, tolerance=tolerance, basis=basis, privacy=privacy,
        record=record, language=language,
    )  # fmt: skip


def draft_hosted(
    name: str,
    members: Sequence[str],
    federated: FederatedPlan,
    releases: Mapping[str, str],
    *,
    groups: Mapping[str, Sequence[str]],
    bands: Sequence[int] = _BANDS,
    kept: str = DEPLOYED,
    tolerance: float = 0.03,
    basis: str = "",
    privacy: PrivacyPlan | None = None,
    record: str | None = None,
    language: ReportLanguage = "en",
) -> AuditPlan:
    """Propose a plan for a federation whose partners' folders are elsewhere: what is counted has to be said.

    Parameters
    ----------
    name
        Of the audit.
    members
        The partners, by name.
    federated, releases, kept
        As in a plan.
    groups
        Attribute to the values that all partners count.
    bands
        Of activity; the plan may say others.
    tolerance, basis, privacy, record
        As in a plan.
    language
        Of the question and of the report.

    Raises
    ------
    ConfigError
        K103 what was asked for is no plan.
    """
    asked: list[dict[str, Any]] = [
        {"name": column, "values": list(values), "small": "withhold"} for column, values in groups.items()
    ]
    # nobody has looked who is in which band: that all are in one must not cost the whole audit
    asked.append({"name": "activity", "by": "activity", "bands": list(bands), "small": "withhold", "required": False})
    return _drafted(
        name, members, asked, federated, releases, kept=kept, tolerance=tolerance, basis=basis, privacy=privacy,
        record=record, language=language,
    )  # fmt: skip


def _drafted(
    name: str,
    partners: Sequence[str],
    groups: list[dict[str, Any]],
    federated: FederatedPlan,
    releases: Mapping[str, str],
    *,
    kept: str,
    tolerance: float,
    basis: str,
    privacy: PrivacyPlan | None,
    record: str | None,
    language: ReportLanguage,
) -> AuditPlan:
    asked = [group["name"] for group in groups]
    controls = ["activity"] if "activity" in asked else []
    if privacy is None:
        groups = [*groups, {"name": "partner", "by": "partner", "small": "withhold"}]
    raw: dict[str, object] = {
        "name": name,
        "question": words_in(language)("draft.question_federated"),
        "system": {"kept": kept, "release": dict(releases)},
        "data": {"sources": list(partners), "basis": basis},
        "groups": groups,
        "control": [] if privacy else [*controls, "partner"],
        "primary": [{"metric": "ndcg", "group": group, "tolerance": tolerance} for group in asked],
        "exploratory": [] if privacy else ["recall", "novelty", "popularity_lift"],
        "minimum_cell": MINIMUM,
        "federated": federated.model_dump(mode="json"),
        "privacy": None if privacy is None else privacy.model_dump(mode="json"),
        "report": {"language": language},
        "record": record,
    }
    return AuditPlan.from_dict(raw, source="the plan")


def _group(column: str, at: Sequence[str], tables: Mapping[str, Tables]) -> dict[str, Any] | None:
    """A group of an attribute; nothing where it has not two values with enough people."""
    columns = [tables[partner].users[column] for partner in at]
    if not all(is_group(one, most=None) for one in columns):
        return None
    people: Counter[str] = Counter()
    for one in columns:
        people.update(str(value) for value in one.drop_nulls())
    # many may not be asked about: only what is well above the minimum is counted
    values = sorted(value for value, count in people.most_common(MOST_VALUES) if count >= 3 * MINIMUM)
    if len(values) < 2:
        return None
    group = {"name": column, "values": values, "small": "withhold"}
    return group if len(at) == len(tables) else {**group, "at": list(at)}
