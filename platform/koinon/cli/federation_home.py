"""``koinon federation create | host | certificate | policy``: found a federation and keep it reachable."""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from koinon.server.federation import Terms

__all__ = ["certificate", "create", "host", "policy"]

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The federation's folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def create(
    folder: Folder,
    name: Annotated[str, typer.Option(help="The federation's name: lower case, digits, hyphens.")],
    address: Annotated[
        str,
        typer.Option(metavar="HOST[:PORT]", help="Under which members reach the server; port 9440 if none is said."),
    ],
    join_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Of the joining service; otherwise the next port.")
    ] = None,
    policy: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The terms, as TOML; otherwise cautious defaults.")
    ] = None,
    state: Annotated[str, typer.Option(metavar="URL", help="postgresql://… for the state; otherwise SQLite.")] = "",
    as_json: AsJson = False,
) -> None:
    """Found a federation in DIR: its policy, its certificate authority, its keys, its database."""
    from koinon.server.membership import Address, FederationHome, HostConfig, draft

    where = Address.parse(address)
    terms = draft(policy, name)
    settings = HostConfig(address=where.host, port=where.port, join_port=join_port or where.port + 1, state=state)
    home = FederationHome.create(folder, terms, settings)
    described = {
        "folder": str(home.folder),
        "nodes_connect_to": str(settings.fleet),
        "partners_join_at": str(settings.joining),
        "ledger_key": home.authority.signer().key,
        **_described(terms),
    }
    if as_json:
        typer.echo(json.dumps(described, indent=2))
        return
    typer.echo(f"{name} is founded in {home.folder}: partners join at {settings.joining}, nodes at {settings.fleet}.")
    _show(terms)
    typer.echo(f"Keep a copy of {home.folder / 'authority'} in a safe place; whoever has it can speak for {name}.")
    typer.echo(f"Next: `koinon federation host {folder}` and `koinon federation invite {folder} PARTNER`.")


def host(
    folder: Folder,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Without TLS, on loopback alone; to try things.")
    ] = False,
) -> None:
    """Run the federation's server until Ctrl-C: the SuperLink for members' nodes, and the joining service."""
    from koinon.server.hosting import host as run
    from koinon.server.membership import FederationHome
    from koinon.server.membership.authority import RENEW_DAYS

    home = FederationHome(folder)
    settings = home.host
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)sZ %(message)s", datefmt="%Y-%m-%dT%H:%M:%S"
    )
    logging.getLogger("koinon").setLevel(logging.INFO)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())

    def ready() -> None:
        how = " WITHOUT TLS" if insecure else ""
        typer.echo(f"{home.terms().name} is hosted{how}: join at {settings.joining}, nodes at {settings.fleet}.")
        if not insecure and home.authority.days_left() < RENEW_DAYS:
            typer.echo(
                f"The server's certificate ends in {home.authority.days_left()} days:"
                f" `koinon federation certificate {folder}`, then start again."
            )

    run(home, insecure=insecure, stopped=stopped, ready=ready)


def certificate(folder: Folder) -> None:
    """Make a new certificate for the server's present address; it holds from the host's next start on."""
    from koinon.server.membership import FederationHome

    home = FederationHome(folder)
    made = home.authority.certify([home.host.address])
    typer.echo(
        f"Certificate for {home.host.address} until {made.not_valid_after_utc:%Y-%m-%d}; members need nothing new."
    )


def policy(
    folder: Folder,
    new: Annotated[
        Path | None, typer.Option("--set", metavar="FILE", help="Put these terms in force (all of them, as TOML).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what the members agree on, or change it; every member must then accept anew."""
    from koinon.server.membership import FederationHome, change_policy, draft, open_registry

    home = FederationHome(folder)
    changed = False
    if new is not None:
        with open_registry(home) as registry:
            changed = change_policy(home, registry, draft(new))
    if as_json:
        typer.echo(json.dumps({"changed": changed, **_described(home.terms())}, indent=2))
        return
    _show(home.terms())
    if changed:
        typer.echo("The policy is another now: members' nodes answer K611 until `koinon partner accept`.")


def _described(terms: Terms) -> dict[str, Any]:
    """What members agree on, and what follows from it."""
    from koinon.recommenders.federated import registry

    shared = {
        learner.name: sorted(registry.plan(learner.name, learner.settings).measures) for learner in terms.learners
    }
    return {
        "policy_sha256": terms.policy_sha256(),
        "policy": terms.model_dump(mode="json", exclude_none=True, exclude={"deadlines", "at_once"}),
        "shared_tensors": shared,
    }


def _show(terms: Terms) -> None:
    budget = terms.privacy
    shared = _described(terms)["shared_tensors"]
    lines = {
        "Policy": terms.policy_sha256(),
        "Shared": "; ".join(f"{learner}: {', '.join(names)}" for learner, names in shared.items()),
        "Minimum cohort": terms.minimum_participants,
        "Aggregation": terms.aggregation,
        "Privacy budget": f"epsilon {budget.epsilon}, delta {budget.delta}" if budget else "none",
        "Encoder": f"{terms.encoder} {terms.encoder_sha256}".strip(),
    }
    for label, value in lines.items():
        typer.echo(f"  {label:<15} {value}")
