"""The HTTP endpoint of one partner's deployed recommender: the same questions and answers as the command line."""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from koinon.clients.serving import Answer, Ask, Shop
from koinon.errors import ConfigError, KoinonError, ResourceError

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["claim_port", "create_app", "serve"]

_STATUS_BY_CODE = {"K450": 404, "K452": 422, "K453": 422}
_LOG = logging.getLogger("koinon.serve")

_DOCUMENTATION = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Koinon: {name}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root {{ color-scheme: light dark }} body {{ font: 16px/1.6 system-ui, sans-serif; max-width: 46em; margin: 3em auto;
padding: 0 1.2em }} pre {{ overflow-x: auto; padding: 1em; border: 1px solid #8884; border-radius: 8px }}
</style>
<h1>{name}</h1>
<p>Arm: <b>{arm}</b>. This page loads nothing from elsewhere; the machine-readable description is
<a href="/openapi.json">/openapi.json</a>.</p>
<h2>POST /recommend</h2>
<p>At least one of <code>user</code>, <code>liked</code>, <code>carried</code>, <code>query</code>; <code>k</code> items
(10). Answers what <code>koinon recommend --json</code> answers.</p>
<pre>curl -s <span id="at">http://127.0.0.1:8765</span>/recommend -H 'content-type: application/json' \\
  -d '{{"liked": ["Der Herr der Ringe", "The Hobbit"], "k": 5}}'</pre>
<h2>GET /health</h2><p>Partner, arm and size of the catalogue.</p>
<h2>Errors</h2>
<p><code>{{"code", "message", "remedy"}}</code> with status 404 (the user is not known), 422 (nothing usable was asked)
or 500.</p>
<script>document.getElementById("at").textContent = location.origin</script></html>"""


def create_app(shop: Shop, *, hosts: Sequence[str] = ()) -> FastAPI:
    """Return the application: ``POST /recommend``, ``GET /health``, ``GET /docs``, ``GET /openapi.json``.

    Nothing of a request is logged, and errors carry no user id. The documentation page needs no other server.

    Parameters
    ----------
    shop
        What answers.
    hosts
        Names by which it may be called; others get status 400. Empty: any. A local endpoint that answered to any name
        could be read by a web page whose name points at this machine.

    Raises
    ------
    ResourceError
        K806 the package fastapi is not installed.
    """
    try:
        from fastapi import FastAPI, Request
        from fastapi.exceptions import RequestValidationError
        from fastapi.middleware.trustedhost import TrustedHostMiddleware
        from fastapi.responses import HTMLResponse, JSONResponse
    except ModuleNotFoundError as error:
        raise _missing("fastapi") from error
    from importlib.metadata import version

    app = FastAPI(
        title=f"Koinon: {shop.name}",
        version=version("koinon"),
        docs_url=None,
        redoc_url=None,
    )

    if hosts:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)

    @app.post("/recommend", summary="Recommend items")
    def recommend(ask: Ask) -> Answer:
        return shop.answer(ask)

    @app.get("/health", summary="Is it there, and what does it serve?")
    def health() -> dict[str, Any]:
        return {"status": "ok", "partner": shop.name, "arm": shop.arm, "items": shop.domain.n_items}

    @app.get("/docs", include_in_schema=False)
    def documentation() -> HTMLResponse:
        return HTMLResponse(_DOCUMENTATION.format(name=shop.name, arm=shop.arm))

    @app.exception_handler(KoinonError)
    def known(_request: Request, error: KoinonError) -> JSONResponse:
        status = _STATUS_BY_CODE.get(error.code, 500)
        return JSONResponse({"code": error.code, "message": error.message, "remedy": error.remedy}, status)

    @app.exception_handler(RequestValidationError)
    def wrong(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part != "body") or "the body"
        body = {"code": "K455", "message": f"`{place}`: {first['msg']}.", "remedy": "See /docs."}
        return JSONResponse(body, 422)

    @app.exception_handler(Exception)
    def unforeseen(_request: Request, error: Exception) -> JSONResponse:
        # the text of an unforeseen error may hold what was asked: only its type is kept
        _LOG.error("unexpected %s", type(error).__name__)
        body = {"code": "K099", "message": "Something unexpected went wrong.", "remedy": "Report it, please."}
        return JSONResponse(body, 500)

    return app


def claim_port(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address; port 0 takes a free one. Early callers wait until it is served.

    Raises
    ------
    ResourceError
        K821 the port is taken or may not be used.
    ConfigError
        K122 there is no such address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    held = socket.socket(family, socket.SOCK_STREAM)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        held.bind((host, port))
        held.listen(64)
    except socket.gaierror as error:
        held.close()
        raise ConfigError(
            "K122", f"There is no address {host}.", "Use 127.0.0.1, or an address of this machine."
        ) from error
    except (OSError, OverflowError) as error:
        held.close()
        raise ResourceError(
            "K821", f"Port {port} of {host} cannot be used: {error}.", "Choose another --port; 0 takes a free one."
        ) from error
    return held


def serve(shop: Shop, held: socket.socket) -> None:
    """Answer on a claimed socket until interrupted. Accesses are not logged.

    Raises
    ------
    ResourceError
        K806 the package uvicorn is not installed.
    """
    try:
        import uvicorn
    except ModuleNotFoundError as error:
        raise _missing("uvicorn") from error
    local = held.getsockname()[0] == "127.0.0.1"
    app = create_app(shop, hosts=("127.0.0.1", "localhost") if local else ())
    settings = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=3)
    uvicorn.Server(settings).run(sockets=[held])


def _missing(package: str) -> ResourceError:
    return ResourceError("K806", f"The Python package `{package}` is not installed.", "Install `koinon[serve]`.")
