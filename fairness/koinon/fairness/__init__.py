"""Who is served how well: group statistics with intervals, small groups kept silent, unknowns counted."""

from koinon.fairness.groups import UNKNOWN, group_table

__all__ = ["UNKNOWN", "group_table"]
