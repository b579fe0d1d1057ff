"""The report as a tagged PDF, by WeasyPrint."""

from __future__ import annotations

import hashlib
import logging
import warnings
from typing import cast

from koinon.errors import ResourceError

__all__ = ["PDF_FILE", "require_pdf", "to_pdf"]

PDF_FILE = "report.pdf"
_REMEDY = (
    "Install them with `pip install 'koinon[pdf]'` and the system's Pango (Debian: libpango-1.0-0, "
    "libpangoft2-1.0-0, libharfbuzz-subset0), or print report.html from a browser."
)


def require_pdf() -> None:
    """Refuse early where no PDF can be made.

    Raises
    ------
    ResourceError
        K806 WeasyPrint, or a system library that it needs, is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # that it could do without it; see below
            import weasyprint  # noqa: F401
            from weasyprint.text.ffi import harfbuzz_subset
    except (ImportError, OSError) as error:
        raise ResourceError("K806", f"A PDF needs WeasyPrint and Pango: {error}".splitlines()[0], _REMEDY) from error
    if harfbuzz_subset is None:
        raise ResourceError(
            "K806", "Without HarfBuzz's subsetter the same page is printed to other bytes every time.", _REMEDY
        )


def to_pdf(page: str) -> bytes:
    """Print a page (:func:`koinon.fairness.report.render`) to PDF/UA-1.

    On one machine the same page gives the same bytes. Another has other fonts, so that a PDF cannot be checked by its
    bytes alone: where they differ, it is to be printed anew from the page.

    Raises
    ------
    ResourceError
        K806 WeasyPrint, or a system library that it needs, is not installed.
    """
    require_pdf()
    from weasyprint import HTML

    # what the style sheet says to browsers alone is no news
    logging.getLogger("weasyprint").setLevel(logging.ERROR)
    logging.getLogger("fontTools").setLevel(logging.ERROR)
    identifier = hashlib.sha256(page.encode()).hexdigest()[:32].encode()
    document = HTML(string=page, url_fetcher=_nothing)
    return cast(bytes, document.write_pdf(pdf_identifier=identifier, pdf_variant="pdf/ua-1"))


def _nothing(url: str, *args: object, **kwargs: object) -> dict[str, object]:
    """Fetch nothing: the page is whole in itself."""
    raise ValueError(f"the report asks for {url}")
