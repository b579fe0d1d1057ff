"""How a round's answers are gathered: each in the open, or as a secure sum that shows the server the total alone."""

from koinon.server.gathering.gathered import Asked, Gathered
from koinon.server.gathering.opened import OpenGathering
from koinon.server.gathering.secure import SecureGathering

__all__ = ["Asked", "Gathered", "OpenGathering", "SecureGathering"]
