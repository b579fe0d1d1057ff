"""Conventional recommenders: popularity, item neighbours, and EASE with or without the space as its prior."""

from koinon.recommenders.conventional._solve import EaseParts, cold_columns, ease_parts, gram_matrix, solve_ease

__all__ = ["EaseParts", "cold_columns", "ease_parts", "gram_matrix", "solve_ease"]
