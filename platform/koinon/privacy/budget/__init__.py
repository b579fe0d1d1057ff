"""Differential privacy at user level: what a person's presence may change, and the account of what has been told.

The unit is one person: two data sets are neighbours if one of them lacks all events of one person, however many these
are (add-or-remove adjacency, which bounds zero-out as well). A federation declares a budget (:class:`PrivacyConfig`);
:mod:`.accounting` turns it into noise multipliers and composes what was charged, with ``dp-accounting`` as the judge;
:mod:`.noise` and :mod:`.mechanism` add the noise; :class:`Account` keeps a partner's charges on its disk.
"""

from koinon.privacy.budget.account import ACCOUNT_FILE, Account, Charge
from koinon.privacy.budget.accounting import Event, composed, events_of, mass_of, multiplier_of, spent
from koinon.privacy.budget.config import PrivacyConfig
from koinon.privacy.budget.mechanism import discrete, gaussian, grid_of, scales
from koinon.privacy.budget.noise import NoiseSource

__all__ = [
    "ACCOUNT_FILE",
    "Account",
    "Charge",
    "Event",
    "NoiseSource",
    "PrivacyConfig",
    "composed",
    "discrete",
    "events_of",
    "gaussian",
    "grid_of",
    "mass_of",
    "multiplier_of",
    "scales",
    "spent",
]
