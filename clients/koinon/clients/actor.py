"""What an actor of the simulation keeps warm between messages.

Flower hands any node's message to any free actor of the pool, so an actor may meet every partner; what must be right,
not merely warm, lives in the partners' folders.
"""

from koinon.clients.partner_state import Partners

__all__ = ["PARTNERS"]

PARTNERS = Partners()
