"""To follow below."""

from koinon.clients.partner_state import PartnerState
from koinon.clients.wire import Ask


def fit_arms(state: PartnerState, ask: Ask) -> dict[str, float]:
    return {}
