"""All probes of an audit plan, on the sources that the audit has opened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from koinon.errors import EvaluationError
from koinon.fairness.probes.association import associate
from koinon.fairness.probes.counterfactual import Asking, probe
from koinon.fairness.probes.findings import Counterfactual, Probes
from koinon.fairness.probes.plan import ProbePlan
from koinon.fairness.subject import Source, attribute_table
from koinon.fairness.verdicts import adjust

if TYPE_CHECKING:
    from koinon.fairness.plan import AuditPlan

__all__ = ["run_probes"]


def run_probes(plan: AuditPlan, sources: Sequence[Source]) -> Probes | None:
    """Run what ``plan.probes`` says; ``None`` where it says nothing.

    Raises
    ------
    EvaluationError
        K540 associations are to be tested and no encoder is named.
    SpaceError
        The encoder cannot be opened.
    """
    if plan.probes is None:
        return None
    asking = Asking(plan.k, plan.level, plan.draws, plan.seed)
    found = [
        one
        for source in sources
        for wanted in plan.probes.counterfactual
        for one in probe(source, wanted, asking, _declared(plan, wanted, source))
    ]
    association, encoder, fingerprint = [], None, None
    if plan.probes.association is not None:
        from koinon.space import open_space

        encoder = plan.probes.association.encoder or plan.system.encoder
        if encoder is None:
            raise EvaluationError(
                "K540", "Associations are to be tested, and no encoder is named.", "Set `system.encoder` in the plan."
            )
        shared = sources[0].space if encoder == plan.system.encoder else None
        space = shared or open_space(encoder)
        fingerprint = space.fingerprint
        association = associate(space, plan.probes.association, seed=plan.seed)
    return Probes(
        counterfactual=_adjusted(found), association=association, encoder=encoder, encoder_fingerprint=fingerprint
    )


def _declared(plan: AuditPlan, wanted: ProbePlan, source: Source) -> list[str | None]:
    """People's own values in the order of the domain's users, where the plan has a group of the attribute's name."""
    people = source.split.train.user_ids
    columns = [g.column or g.name for g in plan.groups if g.by == "attribute" and g.name == wanted.attribute]
    if not columns:
        return [None] * len(people)
    table = attribute_table(source, {"value": columns[0]})
    known = dict(zip(table["user_id"], table["value"], strict=True))
    return [known.get(user) for user in people]


def _adjusted(found: Sequence[Counterfactual]) -> list[Counterfactual]:
    """Adjust over every range of every probe."""
    corrected = iter(adjust([spread.p for one in found for spread in one.spreads], primary=False))
    return [
        one.model_copy(
            update={"spreads": [spread.model_copy(update={"p_adjusted": next(corrected)}) for spread in one.spreads]}
        )
        for one in found
    ]
