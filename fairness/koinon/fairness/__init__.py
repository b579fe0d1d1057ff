"""Who is served how well: audits that are planned first, judged with intervals, and can be checked by anyone.

The way of an audit: a plan is written and entered (:mod:`~koinon.fairness.plan`, :mod:`~koinon.fairness.record`), the
recommender is asked for everybody (:mod:`~koinon.fairness.lists`), people are united into one row each
(:mod:`~koinon.fairness.units`) and divided into cells (:mod:`~koinon.fairness.cells`), cells are compared
(:mod:`~koinon.fairness.comparing`), and the answers are judged (:mod:`~koinon.fairness.verdicts`).

What a comparison needs of people are counts, sums and sums of squares by cell (:mod:`~koinon.fairness.moments`), so
that several partners' can be added up before they are compared.
"""

from koinon.fairness.groups import UNKNOWN, group_table

__all__ = ["UNKNOWN", "group_table"]
