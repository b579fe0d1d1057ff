"""``koinon partner privacy``: what a partner has told of its people, and what a federation would still cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from koinon.privacy.budget import PrivacyConfig
    from koinon.server.federation import FederationConfig

__all__ = ["privacy"]


def privacy(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The partner's folder.")],
    federation: Annotated[
        Path | None, typer.Option("--federation", "-f", help="A federation's file: its budget, and what it would cost.")
    ] = None,
    delta: Annotated[float, typer.Option(help="δ at which ε is stated where no federation is named.")] = 1e-6,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Show the privacy account: the budget, what is spent, and what each charge was for.

    With a federation's file also what each of its rounds costs, before the partner takes part.
    """
    from koinon.clients.budget import open_account
    from koinon.clients.home import Home
    from koinon.data.partner import PartnerConfig
    from koinon.privacy.budget import spent

    name = PartnerConfig.load(folder).name
    account = open_account(Home(folder, name, ""))
    config = _federation(federation)
    budget = config.privacy if config else None
    at = budget.delta if budget else delta
    said: dict[str, Any] = {
        "partner": name,
        "delta": at,
        "epsilon": budget.epsilon if budget else None,
        "spent": account.spent(at),
        "charges": [{**charge.plain(), "epsilon_alone": spent(charge.events, at)} for charge in account.charges],
        "rounds": _rounds(budget, config, name) if budget and config else [],
    }
    typer.echo(json.dumps(said, indent=2) if as_json else _words(said))


def _federation(path: Path | None) -> FederationConfig | None:
    if path is None:
        return None
    from koinon.server.federation import FederationConfig

    return FederationConfig.load(path)


def _rounds(budget: PrivacyConfig, config: FederationConfig, partner: str) -> list[dict[str, Any]]:
    from koinon.privacy.budget import spent
    from koinon.recommenders.federated.budgeting import prices

    listed = prices(budget, {learner.name: learner.settings for learner in config.learners}, partner)
    return [
        {
            "round": price.purpose,
            "noise_multiplier": price.multiplier,
            "epsilon_alone": spent(price.events, budget.delta),
        }
        for price in listed.values()
    ]


def _words(said: dict[str, Any]) -> str:
    of = f" of {said['epsilon']:g}" if said["epsilon"] is not None else ""
    lines = [f"{said['partner']}: spent ε = {said['spent']:.4f}{of} for any one person, at δ = {said['delta']:g}"]
    lines += [
        f"  {charge['number']:>4}  {charge['time']}  {charge['purpose']:<32} ε = {charge['epsilon_alone']:.4f} alone"
        for charge in said["charges"]
    ]
    if said["rounds"]:
        lines.append("What the federation's rounds cost, each alone:")
        lines += [
            f"        {price['round']:<32} ε = {price['epsilon_alone']:.4f},"
            f" noise {price['noise_multiplier']:.2f} times what one person may change"
            for price in said["rounds"]
        ]
    return "\n".join(lines)
