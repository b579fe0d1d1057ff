"""The report's section on what was told of people: how partners answered, and the privacy it has cost."""

from __future__ import annotations

from typing import Any

from koinon.fairness.results import Federated, Spent
from koinon.fairness.templating import filled
from koinon.fairness.words import Words

__all__ = ["federated_section"]


def federated_section(federated: Federated | None, w: Words, *, smallest: int) -> Any:
    """The section as safe HTML; where rows were at hand it says that nothing was told.

    Parameters
    ----------
    federated
        ``None``: whoever audited has the rows.
    w
        The report's language.
    smallest
        People in the smallest group shown.
    """
    there, missing, asked = [], [], ""
    if federated is not None:
        there = [one.partner for one in federated.partners if one.code is None and one.partner]
        missing = [(one.partner or w("privacy.a_partner"), one.code) for one in federated.partners if one.code]
        count = sum(one.code is None for one in federated.partners)
        asked = w("scope.answered", there=count, all=len(federated.partners), name=federated.federation)
    spent = None if federated is None else federated.privacy
    return filled(
        "koinon.fairness.federated",
        "section.html.j2",
        w=w,
        federated=federated,
        smallest=smallest,
        asked=asked,
        there=there,
        missing=missing,
        privacy=None if spent is None else _privacy(spent, w),
        safe=spent is None or spent.safe,
    )


def _privacy(spent: Spent, w: Words) -> dict[str, str]:
    return {
        "epsilon": w.number(spent.epsilon, 2),
        "delta": f"{spent.delta:.0e}".replace("e-0", "e-").replace("-", "\u2212"),
        "budget": w.number(spent.budget, 2),
        "mechanism": w(f"privacy.{spent.mechanism}"),
        "people": w.number(spent.noise.get("people", 0.0), 1),
    }
