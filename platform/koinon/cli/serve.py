"""``koinon serve``: a small HTTP endpoint for a partner's deployed recommender."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["app"]

app = typer.Typer(add_completion=False)


@app.command()
def serve(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A partner's folder, or the demonstration's output with --partner.")
    ],
    partner: Annotated[str | None, typer.Option("--partner", "-p", help="Which partner of DIR.")] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on. There is no authentication: think before you open it to others.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8765,
) -> None:
    """Answer over HTTP what `koinon recommend` answers: POST /recommend, GET /health, GET /docs."""
    from koinon.clients.endpoint import claim_port, serve
    from koinon.clients.serving import Shop, find_partner

    # the port first: whoever finds it taken need not wait for the model
    with claim_port(host, port) as held:
        shop = Shop.open(find_partner(folder, partner))
        address = f"[{host}]" if ":" in host else host
        typer.echo(f"{shop.name}, {shop.arm}: http://{address}:{held.getsockname()[1]}/docs  (Ctrl-C stops)")
        try:
            serve(shop, held)
        except KeyboardInterrupt:
            typer.echo("stopped")
