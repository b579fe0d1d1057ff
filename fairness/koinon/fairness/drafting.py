"""A first plan for data at hand, to be read and changed before it is run. It looks at attributes, never at results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from koinon.data import SplitConfig, Tables
from koinon.errors import EvaluationError
from koinon.fairness.metrics import METRICS
from koinon.fairness.plan import PLAN_FILE, AuditPlan
from koinon.fairness.subject import DATASET, folder_of, open_tables, release_of, source_name
from koinon.fairness.words import ReportLanguage, words_in
from koinon.recommenders.store import needs_space
from koinon.recommenders.training import TRAINABLE, config_type, reads_texts
from koinon.space import DEFAULT_ENCODER

__all__ = ["MINIMUM", "MOST_VALUES", "bands_of", "draft", "is_group", "write_plan"]

MOST_VALUES = 30
MINIMUM = 20


def draft(
    name: str,
    sources: Sequence[str],
    root: Path,
    *,
    recommender: str | None = "ease",
    settings: Mapping[str, Any] | None = None,
    kept: str | None = None,
    encoder: str | None = None,
    attributes: Sequence[str] = (),
    tolerance: float = 0.03,
    protocol: str = "holdout",
    basis: str = "",
    like_from: float | None = None,
    federation: str | None = None,
    record: str | None = None,
    mitigate: bool = False,
    language: ReportLanguage = "en",
) -> AuditPlan:
    """Propose a plan.

    Every attribute with two to thirty values becomes a group (numbers are no groups), so do activity, partners and
    languages where there are several; the first two attributes are crossed. NDCG is asked over each of them with one
    tolerance, at equal activity too; every other metric that the data bear is exploratory.

    Parameters
    ----------
    name
        Of the audit: lower-case letters, digits, hyphens.
    sources, root
        As in a plan, and what folders are relative to.
    recommender, settings, kept
        What is audited; with ``kept``, ``recommender`` does not count.
    encoder
        The space of a recommender that reads texts; default: the packaged one where it needs any.
    attributes
        Attributes to use; default: all that all sources declare.
    tolerance
        Of every primary question.
    protocol, basis, like_from, federation, record
        As in a plan.
    mitigate
        Whether all remedies are weighed, at their defaults.
    language
        Of the question and of the report.

    Raises
    ------
    EvaluationError
        K512 an attribute is not declared, K525 a sensitive one without consent or basis, K526 nothing is kept there.
    ConfigError
        K103 what was asked for is no plan.
    """
    tables = [open_tables(source, root, tuple(attributes), basis) for source in sources]
    chosen = list(attributes) or _usable(tables)
    groups: list[dict[str, Any]] = [_group(attribute, tables) for attribute in chosen]
    if bands := bands_of(tables):
        groups.append({"name": "activity", "by": "activity", "bands": bands})
    if len(sources) > 1:
        groups.append({"name": "partner", "by": "partner", "small": "pool"})
    if len(set().union(*(one.items["language"].drop_nulls().unique() for one in tables))) > 1:
        groups.append({"name": "language", "by": "language", "small": "pool"})
    crossed = [chosen[:2]] if len(chosen) > 1 else []
    over = [group["name"] for group in groups] + ["*".join(parts) for parts in crossed]
    kinds = all(one.items["categories"].list.len().sum() > 0 for one in tables)
    bear = {"": True, "kinds": kinds, "labels": like_from is not None}
    languages = all(one.items["language"].n_unique() > 1 for one in tables)
    creators = all(one.items["creator"].drop_nulls().n_unique() > 1 for one in tables)
    providers = ["popularity", *(["language"] if languages else []), *(["creator"] if creators else [])]
    w = words_in(language)
    question = w("draft.question", groups=", ".join(chosen)) if chosen else w("draft.question_people")
    raw: dict[str, object] = {
        "name": name,
        "question": question,
        "system": _system(sources, root, recommender, settings or {}, kept, encoder),
        "data": {"sources": list(sources), "protocol": protocol, "basis": basis, "like_from": like_from},
        "groups": groups,
        "intersections": crossed,
        "control": ["activity"] if bands else [],
        "primary": [{"metric": "ndcg", "group": group, "tolerance": tolerance} for group in over],
        "exploratory": [metric for metric, about in METRICS.items() if metric != "ndcg" and bear[about.needs]],
        "providers": [{"by": by} for by in providers],
        "minimum_cell": MINIMUM,
        "federation": federation,
        "record": record,
        "mitigation": {} if mitigate else None,
        "report": {"language": language},
    }
    return AuditPlan.from_dict(raw, source="the plan")


def write_plan(folder: Path, plan: AuditPlan) -> Path:
    """Write ``plan.toml`` with every setting spelled out, whole or not at all.

    Raises
    ------
    EvaluationError
        K537 there is one already.
    """
    import tomli_w

    from koinon.config import write_atomically

    path = folder / PLAN_FILE
    if path.exists():
        raise EvaluationError("K537", f"{path} exists already.", "Edit it, or plan in another folder.")
    write_atomically(path, tomli_w.dumps(plan.model_dump(mode="json", exclude_none=True)))
    return path


def _usable(tables: Sequence[Tables]) -> list[str]:
    shared = [name for name in tables[0].users.columns if all(name in one.users.columns for one in tables)]
    return [name for name in shared if name != "user_id" and all(is_group(one.users[name]) for one in tables)]


def is_group(column: pl.Series, most: int | None = MOST_VALUES) -> bool:
    """Whether an attribute divides people: no number, two values or more, and not too many."""
    values = column.drop_nulls().n_unique()
    return not column.dtype.is_numeric() and values >= 2 and (most is None or values <= most)


def _group(attribute: str, tables: Sequence[Tables]) -> dict[str, Any]:
    counts = pl.concat([one.users[attribute].cast(pl.String) for one in tables]).drop_nulls().value_counts()
    # many of a group may not be asked about: what is near the minimum is pooled, too
    small = bool((counts["count"] < 3 * MINIMUM).any())
    return {"name": attribute, "small": "pool" if small else "refuse"}


def bands_of(tables: Sequence[Tables]) -> list[int]:
    """Thirds of people by the events before the one asked for, in round numbers; none where all are as active."""
    every = np.concatenate([one.events.group_by("user_id").len()["len"].to_numpy() for one in tables]).astype(np.int64)
    counts = every[every >= SplitConfig().minimum_user_events] - 1
    if len(counts) == 0:
        return []
    edges = {max(2, int(round(edge, -1 if edge >= 20 else 0))) for edge in np.quantile(counts, [1 / 3, 2 / 3])}
    sizes = np.bincount(np.searchsorted(sorted(edges), counts, side="right"), minlength=len(edges) + 1)
    return sorted(edges) if (sizes >= 3 * MINIMUM).all() else []


def _system(
    sources: Sequence[str],
    root: Path,
    recommender: str | None,
    settings: Mapping[str, Any],
    kept: str | None,
    encoder: str | None,
) -> dict[str, Any]:
    """What is audited, with the space it needs."""
    if kept is None:
        kind = config_type(recommender) if recommender in TRAINABLE else None
        full = kind.from_dict(dict(settings), source="system.settings").model_dump() if kind else {}
        needs = recommender is not None and reads_texts(recommender, full)
        system: dict[str, Any] = {"recommender": recommender, "settings": dict(settings)}
    else:
        system = {"kept": kept, "release": _releases(sources, root, kept)}
        needs = any(needs_space(folder_of(source, root) / kept) for source in sources)
    return {**system, "encoder": encoder or (DEFAULT_ENCODER if needs else None)}


def _releases(sources: Sequence[str], root: Path, kept: str) -> dict[str, str]:
    for source in sources:
        if source.startswith(DATASET):
            raise EvaluationError(
                "K526", f"Nothing is kept for {source}.", "Give a partner's folder, or a recommender."
            )
    return {source_name(source): release_of(folder_of(source, root) / kept) for source in sources}
