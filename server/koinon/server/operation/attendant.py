"""What a host does beside hosting: it starts runs that are due, and tells in its log what runs have brought."""

from __future__ import annotations

import logging

from koinon.server.control import Control
from koinon.server.membership.home import FederationHome, read_nodes
from koinon.server.membership.registry import Registry
from koinon.server.operation.runner import ProcessRun, Runner, utc_now
from koinon.server.processes import Processes
from koinon.server.progress import Event, ProgressReader

__all__ = ["Attendant"]

_LOG = logging.getLogger("koinon.host")


class Attendant:
    """Attends to a hosted federation.

    Parameters
    ----------
    home, registry
        The federation.
    control
        Its SuperLink, for who is connected.
    processes
        Those of the host; runs end with them.
    """

    def __init__(self, home: FederationHome, registry: Registry, control: Control, processes: Processes) -> None:
        self.home = home
        self.control = control
        self.runner = Runner(
            home.folder,
            ProcessRun(processes, home.folder),
            registry.book,
            home.terms().name,
            minimum=lambda: home.terms().minimum_participants,
            connected=self._connected,
            clock=utc_now,
        )
        self.events = ProgressReader(home.out / "progress.jsonl")
        for _ in self.events.new():  # what was before this host started was told by another
            pass

    def follow(self) -> None:
        """Look once."""
        self.runner.follow()
        for event in self.events.new():
            if said := _told(event):
                _LOG.warning("%s", said)

    def _connected(self) -> int:
        online = self.control.online()
        return sum(node.id in online for node in read_nodes(self.home.nodes_file).values())


def _told(event: Event) -> str:
    match event["event"]:
        case "alarm":
            learner = f" ({event['learner']})" if event["learner"] else ""
            return f"alarm {event['code']}: {event['partner']}{learner}; see `koinon federation health`"
        case "withdrawn":
            back = f"release {event['back_to']} counts again" if event["back_to"] else "no release of it counts now"
            return f"release {event['release']} of {event['learner']} was withdrawn ({event['reason']}): {back}"
        case _:
            return ""
