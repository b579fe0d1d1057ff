"""The report of a federation study: ``results.json`` for programs, and one ``report.html`` that opens offline.

The way is: per-user figures (:class:`DemoResults`) → :class:`Results` (means, intervals, gains, aims) → one HTML file.
"""

from koinon.studies.report.build import DemoResults, PartnerResult, build_results
from koinon.studies.report.contents import Sample, SampleItem, SpaceMap
from koinon.studies.report.render import render, write_report
from koinon.studies.report.results import Results
from koinon.studies.report.space_map import map_space

__all__ = [
    "DemoResults",
    "PartnerResult",
    "Results",
    "Sample",
    "SampleItem",
    "SpaceMap",
    "build_results",
    "map_space",
    "render",
    "write_report",
]
