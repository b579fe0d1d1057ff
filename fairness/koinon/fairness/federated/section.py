"""The report's section on how partners answered, and what it has told of a person."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from koinon.fairness.results import Federated, Spent

__all__ = ["asked", "section"]

_MECHANISMS = {
    "local": "each partner added the whole noise to its own sums",
    "distributed": "each partner added its share, and the whole is in the total",
}


def section(federated: Federated | None) -> Any:
    """The section as safe HTML (every text is escaped); empty where rows were at hand."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    if federated is None:
        return Markup("")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = files("koinon.fairness.federated").joinpath("section.html.j2").read_text(encoding="utf-8")
    missing = [one for one in federated.partners if one.code is not None]
    return Markup(
        environment.from_string(text).render(
            federated=federated,
            asked=asked(federated),
            there=[one.partner for one in federated.partners if one.code is None and one.partner],
            missing=[(one.partner or "a partner", one.code) for one in missing],
            privacy=None if federated.privacy is None else _privacy(federated.privacy),
        )
    )


def asked(federated: Federated) -> str:
    """How many answered, in words."""
    there = sum(one.code is None for one in federated.partners)
    return f"{there} of {len(federated.partners)} partners of the federation {federated.federation}"


def _privacy(spent: Spent) -> dict[str, Any]:
    return {
        "epsilon": f"{spent.epsilon:.2f}",
        "delta": f"{spent.delta:.0e}".replace("e-0", "e-").replace("-", "\u2212"),
        "budget": f"{spent.budget:.2f}",
        "mechanism": _MECHANISMS[spent.mechanism],
        "safe": spent.safe,
        "noise": [(name, f"{deviation:.2f}") for name, deviation in spent.noise.items()],
        "people": f"{spent.noise.get('people', 0.0):.1f}",
    }
