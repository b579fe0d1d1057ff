"""The federation's side of the Flower app: one function that hands the grid to the coordinator."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

if TYPE_CHECKING:
    from koinon.server.federation import FederationConfig
    from koinon.server.record import Record
    from koinon.space import Space

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the federation that ``context.run_config`` names.

    ``federation``: a resolved JSON file; ``out``: the output folder; ``events``: where to tell what happens; ``home``:
    the folder of a created federation, whose members' nodes are known by their keys, or empty.
    """
    from koinon.config import write_atomically
    from koinon.errors import KoinonError
    from koinon.server.coordinator import Coordinator
    from koinon.server.federation import FederationConfig
    from koinon.server.progress import PID_FILE, ProgressLog

    events = Path(str(context.run_config["events"]))
    say = ProgressLog(events)
    write_atomically(events.with_name(PID_FILE), str(os.getpid()))
    try:
        described = Path(str(context.run_config["federation"])).read_text(encoding="utf-8")
        config = FederationConfig.model_validate_json(described)
        out = Path(str(context.run_config["out"]))
        members = _members(Path(home), out, config) if (home := str(context.run_config["home"])) else Members()
        space = _space(config.encoder, config.encoder_sha256)
        Coordinator(grid, config, out, space, say, members.record, members.registered).run()
    except KoinonError as error:
        say("failed", code=error.code, message=error.message, remedy=error.remedy)
        raise
    except Exception as error:
        said = f"Unexpected {type(error).__name__}: {error}"
        say("failed", code="K099", message=said, remedy="See logs/superlink.log.")
        raise


class Members(NamedTuple):
    """Who the partners are, and where it goes on record, in a created federation; nothing in one that is a file."""

    record: Record | None = None
    registered: Callable[[], Mapping[int, str]] | None = None


def _members(folder: Path, out: Path, config: FederationConfig) -> Members:
    from koinon.server.membership.home import FederationHome, read_nodes
    from koinon.server.record import Record
    from koinon.server.state import LedgerBook

    home = FederationHome(folder)
    record = Record(LedgerBook(home.open_store(), home.authority.signer()), out, config)
    return Members(record, lambda: {node.id: name for name, node in read_nodes(home.nodes_file).items()})


def _space(encoder: str, sha256: str) -> Space | None:
    """The pinned encoder; ``none`` for a federation whose learners read no texts."""
    if encoder == "none":
        return None
    from koinon.errors import SpaceError
    from koinon.space import open_space

    space = open_space(encoder)
    if sha256 and space.fingerprint != sha256:
        raise SpaceError(
            "K311",
            f"{encoder} is not the encoder that the policy pins.",
            "Install the one that the federation began with.",
        )
    return space
