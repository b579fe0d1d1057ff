"""Templates that lie beside the code that fills them; every text is escaped."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

__all__ = ["filled"]


def filled(package: str, name: str, **values: Any) -> Any:
    """Fill a package's template and return it as safe HTML."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = files(package).joinpath(name).read_text(encoding="utf-8")
    return Markup(environment.from_string(text).render(**values))
