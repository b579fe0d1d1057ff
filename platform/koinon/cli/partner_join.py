"""``koinon partner join`` and what a member does afterwards: node, standing, policy, keys, log, leaving."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from koinon.clients.joining import Member
    from koinon.clients.preflight import Finding
    from koinon.protos import joining_pb2 as joining

app = typer.Typer()

_Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The partner's folder.")]
_Invite = Annotated[str, typer.Argument(metavar="INVITE", help="The invitation, or a file that holds it.")]
_Yes = Annotated[bool, typer.Option("--yes", help="Accept the policy without being asked.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_Retries = Annotated[
    int | None, typer.Option("--max-retries", min=0, help="Try a lost server so often; otherwise for ever.")
]

_MARK = {"ok": "✓", "warn": "!", "refuse": "✗"}


@app.command(epilog="Example: koinon partner join invitation.txt shop")
def join(
    invite: _Invite,
    folder: _Folder,
    yes: _Yes = False,
    wait: Annotated[float, typer.Option(min=0, help="Wait so many seconds for the operator's approval.")] = 600.0,
    start: Annotated[bool, typer.Option("--start/--no-start", help="Start the node once approved.")] = True,
    max_retries: _Retries = None,
) -> None:
    """Become a member of a federation: preflight, policy, keys, application, node.

    Keys are made in DIR/federation/keys and stay there. Interrupted, the same command goes on where it was.
    """
    from koinon.clients.joining import Member, ended, read_invitation
    from koinon.clients.joining import join as apply_for
    from koinon.clients.node import run_node
    from koinon.clients.preflight import offer_findings, partner_findings, refuse_if_any
    from koinon.protos import joining_pb2 as joining

    invitation = read_invitation(invite)

    def consent(offer: joining.Offer) -> None:
        said = (invitation.federation, invitation.partner, invitation.ca_certificate)
        now = time.time_ns() // 10**6
        findings = [*partner_findings(folder), *offer_findings(offer, *said, folder, now)]
        _print_findings(findings)
        refuse_if_any(findings)
        _ask_for_consent(offer, yes)

    standing = apply_for(invitation, folder, consent)
    with Member(folder) as member:
        if standing.state == joining.Standing.APPLIED:
            typer.echo(
                f"{invitation.partner} has applied to {invitation.federation} with the key"
                f" {member.keys.node_sha256[:16]}: tell its operator, who compares it."
            )
        if standing.state == joining.Standing.APPLIED and wait > 0:
            typer.echo("Waiting for the operator's approval.")
            standing = _wait(member, wait)
    if standing.state == joining.Standing.APPLIED:
        typer.echo("Not approved yet; the same command asks again.")
        return
    if standing.state != joining.Standing.APPROVED:
        raise ended(standing)
    typer.echo(f"{invitation.partner} is a member of {invitation.federation}.")
    if start:
        _say_started(folder)
        run_node(folder, typer.echo, max_retries=max_retries)
    else:
        typer.echo(f"Start its node: koinon partner node {folder}")


@app.command(epilog="Example: koinon partner preflight shop")
def preflight(
    target: Annotated[str, typer.Argument(metavar="DIR|INVITE", help="A member's folder, or an invitation.")],
    folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="With an invitation: the partner's folder.")
    ] = None,
    as_json: _Json = False,
) -> None:
    """Look at all that joining and working needs, and say what is wrong and how to mend it."""
    import tempfile

    from koinon.clients.joining import read_invitation
    from koinon.clients.preflight import check_invitation, check_member, refuse_if_any

    if os.path.isdir(target):  # unlike Path's, false for a name that is too long to be one
        findings = check_member(Path(target))
    else:
        with tempfile.TemporaryDirectory() as nowhere:
            log = (folder or Path(nowhere)) / "federation" / "egress.jsonl"
            findings = check_invitation(read_invitation(target), folder, log)
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], ensure_ascii=False, indent=2))
    else:
        _print_findings(findings)
    refuse_if_any(findings)


@app.command(epilog="Example: koinon partner node shop")
def node(
    folder: _Folder,
    max_retries: _Retries = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Without TLS, to a server on this machine's loopback alone.")
    ] = False,
) -> None:
    """Run the member's node in the foreground until it is interrupted."""
    from koinon.clients.node import run_node

    _say_started(folder)
    run_node(folder, typer.echo, max_retries=max_retries, insecure=insecure)


@app.command(epilog="Example: koinon partner standing shop")
def standing(folder: _Folder, as_json: _Json = False) -> None:
    """Say what the federation says of this member."""
    from koinon.clients.joining import Member

    with Member(folder) as member:
        answer = member.standing()
        _print_standing(member, answer, as_json)


@app.command(epilog="Example: koinon partner accept shop")
def accept(folder: _Folder, yes: _Yes = False) -> None:
    """Read what has changed in the federation's policy, and accept it; the node is then started again."""
    from koinon.clients.joining import Member
    from koinon.clients.pinning import code_sha256
    from koinon.clients.preflight import offer_findings, refuse_if_any
    from koinon.clients.terms import difference

    with Member(folder) as member:
        offer, said = member.describe(), member.membership
        unchanged = (said.policy_sha256, said.code_sha256, said.app_sha256, said.fleet_address)
        if unchanged == (offer.policy_sha256, code_sha256(), offer.app_sha256, offer.fleet_address):
            typer.echo("Nothing has changed.")
            return
        _say_changed("policy", said.policy_sha256, offer.policy_sha256)
        _echo(difference(said.agreed, offer.policy), "  ")
        _say_changed("Koinon's code", said.code_sha256, code_sha256())
        _say_changed("server", said.fleet_address, offer.fleet_address)
        now = time.time_ns() // 10**6
        refuse_if_any(offer_findings(offer, said.federation, said.partner, said.ca_certificate, folder, now))
        _confirm("Accept this?", yes)
        member.accept(offer)
    typer.echo(f"Accepted. Start the node again: koinon partner node {folder}")


@app.command(epilog="Example: koinon partner rotate shop")
def rotate(folder: _Folder) -> None:
    """Give the node a new key; the old one is worth nothing from then on."""
    from koinon.clients.joining import Member

    with Member(folder) as member:
        member.rotate()
        typer.echo(
            f"The node's key is now {member.keys.node_sha256[:16]}. Start it again: koinon partner node {folder}"
        )


@app.command(epilog="Example: koinon partner leave shop --forget")
def leave(
    folder: _Folder,
    forget: Annotated[
        bool, typer.Option("--forget", help="Ask that what your catalogue brought is dropped from later releases.")
    ] = False,
) -> None:
    """Leave the federation: keys and pins are removed from DIR; your data, models and log stay."""
    from koinon.clients.joining import Member

    with Member(folder) as member:
        name = member.membership.federation
        member.leave(forget=forget)
    typer.echo(f"You have left {name}. What releases hold of your sums is said in docs/security.md.")


@app.command(epilog="Example: koinon partner log shop")
def log(folder: _Folder, as_json: _Json = False) -> None:
    """Print what ever left this partner: when, why, what, how many bytes, under which privacy charge."""
    from koinon.clients.egress import read_egress, totals

    crossings = read_egress(folder)
    sums = totals(crossings)
    if as_json:
        lines = [{**asdict(crossing), "time": crossing.time.isoformat()} for crossing in crossings]
        by_purpose = {purpose: {"times": times, "bytes": size} for purpose, (times, size) in sums.items()}
        typer.echo(json.dumps({"crossings": lines, "totals": by_purpose}, ensure_ascii=False, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 160
    table = Table("time (UTC)", "why", "round", "what", "bytes", "privacy charge")
    for crossing in crossings:
        charge = "" if crossing.charge is None else json.dumps(crossing.charge)
        row = (f"{crossing.time:%Y-%m-%d %H:%M:%S}", crossing.purpose, str(crossing.round or ""), crossing.what)
        table.add_row(*row, f"{crossing.bytes:,}", charge)
    console.print(table)
    for purpose, (times, size) in sums.items():
        console.print(f"{purpose}: {times:,} times, {size:,} bytes", markup=False)
    console.print(f"in all: {len(crossings):,} times, {sum(c.bytes for c in crossings):,} bytes", markup=False)


def _ask_for_consent(offer: joining.Offer, yes: bool) -> None:
    from koinon.clients.terms import in_words

    typer.echo(f"\nThe policy of {offer.policy.federation} ({offer.policy_sha256}):")
    _echo(in_words(offer.policy), "  ")
    typer.echo(f"  code {offer.code_sha256[:12]}, app {offer.app_sha256[:12]}, server {offer.fleet_address}\n")
    _confirm("Accept this policy?", yes)


def _confirm(question: str, yes: bool) -> None:
    from koinon.errors import PrivacyError

    if not yes and not typer.confirm(question):
        raise PrivacyError("K646", "The policy was not accepted.", "Nothing was sent but the invitation's secret.")


def _wait(member: Member, seconds: float) -> joining.Standing:
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        return member.wait(seconds, lambda _: None)
    with console.status("waiting for the operator's approval"):
        return member.wait(seconds, lambda _: None)


def _print_findings(findings: Iterable[Finding]) -> None:
    for finding in findings:
        said = f"{_MARK[finding.level]} {finding.check}: {finding.said}"
        typer.echo(said if finding.level == "ok" else f"{said} [{finding.code}] {finding.remedy}")


def _print_standing(member: Member, answer: joining.Standing, as_json: bool) -> None:
    from koinon.protos import joining_pb2 as joining

    said = member.membership
    state = joining.Standing.State.Name(answer.state).lower()
    current = answer.policy_sha256 in ("", said.policy_sha256)
    told: dict[str, Any] = {"federation": said.federation, "partner": said.partner, "standing": state}
    if as_json:
        typer.echo(json.dumps(told | {"message": answer.message, "policy_accepted": current}))
        return
    typer.echo(f"{said.partner} in {said.federation}: {state}{f' ({answer.message})' if answer.message else ''}")
    if not current:
        typer.echo("The federation's policy has changed: `koinon partner accept` shows how, and accepts it.")


def _say_changed(what: str, before: str, after: str) -> None:
    if before != after:
        typer.echo(f"{what}: {before[:30]} → {after[:30]}")


def _echo(lines: Iterable[str], indent: str) -> None:
    for line in lines:
        typer.echo(f"{indent}{line}")


def _say_started(folder: Path) -> None:
    typer.echo(f"The node of {folder} runs until it is interrupted (log: {folder / 'federation' / 'node.log'}).")
