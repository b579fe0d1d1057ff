"""The federation's side of the Flower app: one function that hands the grid to the coordinator."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

if TYPE_CHECKING:
    from koinon.space import Space

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the federation that ``context.run_config`` names.

    ``federation``: a resolved JSON file; ``out``: the output folder; ``events``: where to tell what happens.
    """
    from koinon.errors import KoinonError
    from koinon.server.coordinator import Coordinator
    from koinon.server.federation import FederationConfig
    from koinon.server.progress import ProgressLog

    say = ProgressLog(Path(str(context.run_config["events"])))
    try:
        described = Path(str(context.run_config["federation"])).read_text(encoding="utf-8")
        config = FederationConfig.model_validate_json(described)
        out = Path(str(context.run_config["out"]))
        Coordinator(grid, config, out, _space(config.encoder), say).run()
    except KoinonError as error:
        say("failed", code=error.code, message=error.message, remedy=error.remedy)
        raise
    except Exception as error:
        said = f"Unexpected {type(error).__name__}: {error}"
        say("failed", code="K099", message=said, remedy="See logs/superlink.log.")
        raise


def _space(encoder: str) -> Space | None:
    """The pinned encoder; ``none`` for a federation whose learners read no texts."""
    if encoder == "none":
        return None
    from koinon.space import open_space

    return open_space(encoder)
