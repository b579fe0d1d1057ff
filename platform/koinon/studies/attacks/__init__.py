"""Attacks on a federation of sums, to measure what its defences are worth; ``bench/attacks.py`` prints the figures.

Poisoning: a malicious partner sends other sums than its people's. Reading: somebody who sees sums, a server or a
partner, infers a person's basket or that a person is in them. Every attacker knows the rules and the defences.
"""

from koinon.studies.attacks.poisoning import POISONS, Attacker, Poison
from koinon.studies.attacks.reading import BasketsFound, Membership, membership, rebuild_baskets

__all__ = ["POISONS", "Attacker", "BasketsFound", "Membership", "Poison", "membership", "rebuild_baskets"]
