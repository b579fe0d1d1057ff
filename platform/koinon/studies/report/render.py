"""One self-contained HTML file from results: template, style and script are inlined, nothing is ever requested."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from koinon.config import write_atomically
from koinon.errors import ResourceError
from koinon.studies.report.contents import Sample, SpaceMap
from koinon.studies.report.results import Results
from koinon.studies.report.view import build_view

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

__all__ = ["page_environment", "render", "write_report"]


def render(results: Results, *, space_map: SpaceMap | None = None, samples: Sequence[Sample] = ()) -> str:
    """Return the report as HTML. Titles and names are escaped; a content policy forbids every request.

    Raises
    ------
    ResourceError
        K806 the package jinja2 is not installed.
    """
    environment, markup = page_environment()
    here = files("koinon.studies.report")

    def text(name: str) -> str:
        return here.joinpath(name).read_text(encoding="utf-8")

    view = build_view(results, space_map, samples)
    # "<" could end the script element or open a comment in it; JSON may write it as an escape
    data = json.dumps(view.pop("data"), ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return environment.from_string(text("report.html.j2")).render(
        **view, css=markup(text("report.css")), js=markup(text("report.js")), data=markup(data)
    )


def page_environment() -> tuple[Environment, type[Markup]]:
    """What turns a template into a page: everything escaped, nothing undefined; and the mark of what is markup.

    Raises
    ------
    ResourceError
        K806 the package jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, StrictUndefined
        from markupsafe import Markup
    except ModuleNotFoundError as error:
        raise ResourceError(
            "K806", "The Python package `jinja2` is not installed.", "Install it with `pip install 'koinon[report]'`."
        ) from error
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True), Markup


def write_report(
    folder: Path, results: Results, *, space_map: SpaceMap | None = None, samples: Sequence[Sample] = ()
) -> Path:
    """Write ``results.json`` and ``report.html`` into a folder, each whole or not at all; returns the report's path."""
    results.write(folder / "results.json")
    write_atomically(folder / "report.html", render(results, space_map=space_map, samples=samples))
    return folder / "report.html"
