"""The federation's side: who is asked what, what is added up, what is published, and the processes it runs in.

:func:`run_federation` runs a whole federation on this machine; ``koinon federation run`` is its command.
:mod:`koinon.server.membership` and :mod:`koinon.server.hosting` keep one that companies join from their own machines.
"""

from koinon.server.federation import Deadlines, FederationConfig, LearnerConfig, Mode
from koinon.server.launcher import FederationResult, run_federation, run_hosted
from koinon.server.progress import Event, Progress
from koinon.server.state.release_book import read_release

__all__ = [
    "Deadlines",
    "Event",
    "FederationConfig",
    "FederationResult",
    "LearnerConfig",
    "Mode",
    "Progress",
    "read_release",
    "run_federation",
    "run_hosted",
]
