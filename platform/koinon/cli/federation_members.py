"""``koinon federation invite | invitations | revoke | members | approve | …``: who belongs to a federation."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from koinon.server.membership import FederationHome, Member, Registry

__all__ = ["approve", "invitations", "invite", "members", "reject", "remove", "resume", "revoke", "suspend"]

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The federation's folder.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The partner's name in the federation.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Why = Annotated[
    Literal["operator", "policy", "key", "anomaly", "harm", "request"],
    typer.Option("--reason", help="Why, for the record."),
]


def invite(
    folder: Folder,
    name: Name,
    days: Annotated[float, typer.Option(min=0.01, max=90, help="How long it is worth something.")] = 7,
) -> None:
    """Print an invitation: one line, for one partner, worth one membership."""
    from koinon.protos.invitation import Invitation

    with _open(folder) as (home, registry):
        secret, expires = registry.invite(name, days=days)
        line = Invitation(
            federation=home.terms().name,
            address=str(home.host.joining),
            ca_certificate=home.authority.ca_file.read_text(encoding="ascii"),
            partner=name,
            expires=expires,
            secret=secret,
        ).encode()
    typer.echo(line)
    typer.echo(
        f"For {name} alone, until {expires:%Y-%m-%d %H:%M} UTC, once. Hand it over as you would a password; there:"
        " `koinon partner join INVITATION DIR`.",
        err=True,
    )


def invitations(folder: Folder, as_json: AsJson = False) -> None:
    """List the invitations that were given out."""
    with _open(folder) as (_, registry):
        listed = registry.invitations()
    if as_json:
        rows = [
            {"partner": i.partner, "created": i.created.isoformat(), "expires": i.expires.isoformat()}
            | {"standing": i.ended or "open", "sha256": i.secret_sha256}
            for i in listed
        ]
        typer.echo(json.dumps(rows, indent=2))
        return
    for i in listed:
        typer.echo(f"{i.partner:<24} {i.ended or 'open':<8} until {i.expires:%Y-%m-%d %H:%M}")
    if not listed:
        typer.echo("Nobody was invited yet.")


def revoke(folder: Folder, name: Name) -> None:
    """Make a partner's open invitation worthless."""
    with _open(folder) as (_, registry):
        registry.revoke(name)
    typer.echo(f"The invitation of {name} is revoked.")


def members(folder: Folder, as_json: AsJson = False) -> None:
    """List who has applied, who is a member, and whose node is connected."""
    with _open(folder) as (home, registry):
        listed, now, online = registry.members(), home.terms().policy_sha256(), _online(home)
        open_invitations = [i for i in registry.invitations() if not i.ended]
    rows = [
        {
            "name": m.name,
            "state": str(m.state),
            "since": m.since.isoformat(),
            "accepts_policy": m.policy_sha256 == now,
            "connected": None if online is None else m.node_id in online,
            "node_key_sha256": _fingerprint(m),
            "koinon_version": m.koinon_version,
        }
        for m in listed
    ]
    if as_json:
        invited = [{"name": i.partner, "state": "invited", "since": i.created.isoformat()} for i in open_invitations]
        typer.echo(json.dumps(rows + invited, indent=2))
        return
    for row in rows:
        said = [f"key {str(row['node_key_sha256'])[:16]}"]
        if row["state"] == "approved" and online is not None:
            said.append("connected" if row["connected"] else "not connected")
        if not row["accepts_policy"]:
            said.append("has not accepted the present policy")
        typer.echo(f"{row['name']:<24} {row['state']:<10} " + ", ".join(said))
    for i in open_invitations:
        typer.echo(f"{i.partner:<24} invited    until {i.expires:%Y-%m-%d %H:%M}")
    if not rows and not open_invitations:
        typer.echo("Nobody was invited yet.")


def approve(folder: Folder, name: Name) -> None:
    """Admit an applicant. Compare the key's fingerprint with what the partner tells you."""
    _move(folder, name, lambda registry: registry.approve(name))


def reject(folder: Folder, name: Name, reason: Why = "operator") -> None:
    """Turn an applicant down."""
    _move(folder, name, lambda registry: registry.reject(name, reason))


def suspend(folder: Folder, name: Name, reason: Why = "operator") -> None:
    """Keep a member's node out until it is resumed."""
    _move(folder, name, lambda registry: registry.suspend(name, reason))


def resume(folder: Folder, name: Name) -> None:
    """Let a suspended member take part again."""
    _move(folder, name, lambda registry: registry.resume(name))


def remove(folder: Folder, name: Name, reason: Why = "operator") -> None:
    """End a membership. To come back, the partner needs a new invitation and new keys."""
    _move(folder, name, lambda registry: registry.remove(name, reason))


@contextmanager
def _open(folder: Path) -> Iterator[tuple[FederationHome, Registry]]:
    from koinon.server.membership import FederationHome, open_registry

    home = FederationHome(folder)
    with open_registry(home) as registry:
        yield home, registry


def _move(folder: Path, name: str, decide: Callable[[Registry], Member]) -> None:
    with _open(folder) as (home, registry):
        member = decide(registry)
    when = "within seconds" if home.control_file.exists() else "when the host starts"
    typer.echo(f"{name} is {member.state} (key {_fingerprint(member)[:16]}); its node is told {when}.")


def _fingerprint(member: Member) -> str:
    from koinon.server.membership.records import key_sha256

    return key_sha256(member.node_key)


def _online(home: FederationHome) -> set[int] | None:
    """Ids of the connected nodes; ``None`` where nobody can say."""
    from koinon.errors import FederationError
    from koinon.server.control import Control, InnerPort

    try:
        control = Control(InnerPort.read(home.control_file))
    except FederationError:
        return None
    try:
        return control.online()
    except FederationError:
        return None
    finally:
        control.close()
