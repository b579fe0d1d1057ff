"""How what partners send becomes a total, and what is refused, bounded or reported on the way.

A :class:`Gate` holds each contribution against what was asked for and excludes what cannot be true; :func:`aggregate`
adds up what remains by the rule that the policy names; :func:`anomalies` says who stands out. All of it reads single
contributions, so none of it goes together with secure aggregation, where the server sees totals alone
(docs/attacks.md has the derivations and what each is worth).
"""

from koinon.server.aggregation.anomalies import Anomaly, anomalies
from koinon.server.aggregation.cells import Cells
from koinon.server.aggregation.gate import REFUSALS, Gate
from koinon.server.aggregation.rules import RULES, Robustness, aggregate

__all__ = ["REFUSALS", "RULES", "Anomaly", "Cells", "Gate", "Robustness", "aggregate", "anomalies"]
