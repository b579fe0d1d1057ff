"""Before a partner joins or starts its node: what would go wrong, each thing named, with how to mend it."""

from __future__ import annotations

import os
import re
import shutil
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from koinon.clients import pinning
from koinon.clients.clock import AHEAD_S
from koinon.clients.joining import JoiningService, Member, check_offer
from koinon.clients.membership import Membership
from koinon.clients.reach import check_server
from koinon.clients.terms import in_words
from koinon.data import PartnerConfig, Vault
from koinon.errors import FederationError, KoinonError
from koinon.privacy import read_match_key
from koinon.protos import joining_pb2 as joining
from koinon.protos.invitation import Invitation

__all__ = ["Finding", "check_invitation", "check_member", "offer_findings", "partner_findings", "refuse_if_any"]

Level = Literal["ok", "warn", "refuse"]

SKEW_WARNS_S, SKEW_REFUSES_S = 30.0, 120.0
DISK_WARNS, DISK_REFUSES = 2 << 30, 200 << 20
"""Bytes free on the disk of the partner's folder."""
PYTHON = ((3, 11), (3, 13))
"""From the first, below the second."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    check
        What: ``policy``, ``clock``, ``join port`` …
    level
        ``ok``; ``warn``: it works, but; ``refuse``: it would not.
    said
        What is there, or what is wrong.
    code, remedy
        Of what is wrong; empty where all is well.
    """

    check: str
    level: Level
    said: str
    code: str = ""
    remedy: str = ""


def check_invitation(invitation: Invitation, folder: Path | None, egress_log: Path) -> list[Finding]:
    """Look at all an invited partner needs; ``folder`` is left out where it is ``None``."""
    local = list(partner_findings(folder)) if folder is not None else [_python(), _local_port()]
    found = [*local, _reachable("join port", invitation.address, invitation.ca_certificate)]
    if _refused(found[-1:]):
        return found
    service = JoiningService(invitation.address, invitation.ca_certificate, invitation.partner, egress_log)
    with service:
        try:
            offer = service.describe(invitation.secret)
        except KoinonError as error:
            return [*found, _of("policy", error)]
    terms = offer_findings(
        offer, invitation.federation, invitation.partner, invitation.ca_certificate, folder, time.time_ns() // 10**6
    )
    return [*found, *terms]


def check_member(folder: Path) -> list[Finding]:
    """Look at all a member needs to work; where it is none yet, at its folder alone."""
    found = list(partner_findings(folder))
    try:
        member = Member(folder)
    except KoinonError as error:
        return [*found, _of("membership", error)]
    with member:
        said = member.membership
        found.append(_reachable("join port", said.join_address, said.ca_certificate))
        if _refused(found[-1:]):
            return found
        try:
            offer = member.describe()
        except KoinonError as error:
            return [*found, _of("policy", error)]
        now = time.time_ns() // 10**6
        terms = offer_findings(offer, said.federation, said.partner, said.ca_certificate, folder, now, accepted=said)
    return [*found, *terms]


def refuse_if_any(findings: list[Finding]) -> None:
    """Raise where anything refuses.

    Raises
    ------
    FederationError
        K739 naming how many and the first.
    """
    refusing = _refused(findings)
    if refusing:
        raise FederationError(
            "K739",
            f"The preflight refuses ({len(refusing)}): {refusing[0].said} [{refusing[0].code}]",
            refusing[0].remedy,
        )


def partner_findings(folder: Path) -> Iterator[Finding]:
    """Look at this machine and the partner's folder: Python, rights, disk, vault, ports."""
    yield _python()
    rights = _rights(folder)
    yield rights
    if rights.level != "refuse":
        yield _disk(folder)
        yield _vault(folder)
    yield _local_port()


def offer_findings(
    offer: joining.Offer,
    federation: str,
    partner: str,
    ca_certificate: str,
    folder: Path | None,
    now_ms: int,
    *,
    accepted: Membership | None = None,
) -> list[Finding]:
    """Hold what a federation offers against what is installed here and what was accepted.

    Parameters
    ----------
    offer
        As the server has just sent it.
    federation, partner
        As the invitation or the membership says.
    ca_certificate
        PEM of the only authority that is believed.
    folder
        The partner's folder, or ``None`` where it is not known yet.
    now_ms
        When the offer came, milliseconds since 1970 UTC by this machine's clock.
    accepted
        What was accepted before, by a member.
    """
    return [
        _policy(offer, federation, partner, accepted),
        _catalogue(offer, folder),
        _clock(offer, now_ms),
        _koinon(offer, accepted),
        _flower(offer),
        _code(offer, accepted),
        _encoder(offer),
        _reachable("fleet port", offer.fleet_address, ca_certificate),
    ]


def _python() -> Finding:
    here = ".".join(map(str, sys.version_info[:3]))
    if PYTHON[0] <= sys.version_info[:2] < PYTHON[1]:
        return Finding("python", "ok", f"Python {here}.")
    return Finding("python", "refuse", f"Python {here} is not one Koinon is made for.", "K832", "Use 3.11 or 3.12.")


def _rights(folder: Path) -> Finding:
    if not folder.is_dir():
        return Finding(
            "folder", "refuse", f"There is no folder {folder}.", "K835", f"`koinon partner init {folder}` makes it."
        )
    mode = folder.stat().st_mode
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return Finding(
            "folder", "refuse", f"This user may not write in {folder}.", "K835", "Mend its owner or its rights."
        )
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        return Finding("folder", "refuse", f"Others may write in {folder}.", "K835", f"`chmod go-w {folder}`.")
    if mode & (stat.S_IRGRP | stat.S_IROTH):
        return Finding(
            "folder",
            "warn",
            f"Other users of this machine may read {folder}, your customers' events included.",
            "K835",
            f"`chmod 700 {folder}`.",
        )
    return Finding("folder", "ok", f"{folder} is this user's own.")


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    said = f"{free / 2**30:.1f} GiB free."
    if free < DISK_REFUSES:
        return Finding("disk", "refuse", said, "K834", "Free at least 2 GiB.")
    if free < DISK_WARNS:
        return Finding("disk", "warn", said, "K834", "Free at least 2 GiB: models and caches need it.")
    return Finding("disk", "ok", said)


def _vault(folder: Path) -> Finding:
    remedy = f"`koinon partner check {folder}` reads and checks your data."
    try:
        vault = Vault(folder)
        if not vault.exists:
            return Finding("vault", "refuse", f"{folder} has no vault yet.", "K836", remedy)
        vault.manifest()
        if vault.needs_ingest():
            return Finding("vault", "warn", "Your sources changed since the vault was made.", "K836", remedy)
    except KoinonError as error:
        return Finding("vault", "refuse", error.message, "K836", error.remedy or remedy)
    return Finding("vault", "ok", f"The vault of {vault.name} is there and up to date.")


def _local_port() -> Finding:
    try:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
    except OSError as error:
        return Finding(
            "local port",
            "refuse",
            f"No port of the loopback interface is free: {error}.",
            "K837",
            "End what holds them.",
        )
    return Finding("local port", "ok", "The node finds a free port on the loopback interface.")


def _reachable(check: str, address: str, ca_certificate: str) -> Finding:
    try:
        check_server(address, ca_certificate)
    except KoinonError as error:
        return _of(check, error)
    except ValueError:
        return Finding(check, "refuse", f"{address!r} is no address.", "K826", "Ask the federation's operator.")
    return Finding(check, "ok", f"{address} answers and proves to be the federation's server.")


def _policy(offer: joining.Offer, federation: str, partner: str, accepted: Membership | None) -> Finding:
    try:
        check_offer(offer, federation, partner)
        in_words(offer.policy)
    except KoinonError as error:
        return Finding("policy", "refuse", error.message, "K838", error.remedy)
    except ValueError:
        return Finding("policy", "refuse", "The policy cannot be read.", "K838", "Ask the federation's operator.")
    if accepted is not None and accepted.policy_sha256 != offer.policy_sha256:
        return Finding(
            "policy",
            "refuse",
            f"The policy ({offer.policy_sha256[:12]}) is not the one you accepted ({accepted.policy_sha256[:12]}).",
            "K838",
            "`koinon partner accept DIR` shows the difference and accepts it.",
        )
    return Finding("policy", "ok", f"Policy {offer.policy_sha256[:12]} of {federation}.")


def _catalogue(offer: joining.Offer, folder: Path | None) -> Finding:
    """Whether this partner's catalogue can take part: public, or by keyed hashes."""
    if folder is None:
        return Finding("catalogue", "ok", "Not looked at: no folder was given.")
    try:
        if offer.policy.keyed_catalogues:
            read_match_key(folder)
            return Finding("catalogue", "ok", "Keyed hashes; the match key is there.")
        public = PartnerConfig.load(folder).catalogue == "public"
    except KoinonError as error:
        return _of("catalogue", error)
    if not public:
        return Finding(
            "catalogue",
            "refuse",
            "Your catalogue is secret, but this federation compares titles in the clear.",
            "K838",
            'Set catalogue = "public" in partner.toml, or ask the operator for keyed_catalogues.',
        )
    return Finding("catalogue", "ok", "You have declared it public.")


def _clock(offer: joining.Offer, now_ms: int) -> Finding:
    skew = (now_ms - offer.server_time_ms) / 1000
    said = f"This machine's clock is {abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} the server's."
    remedy = "Set the clock, e.g. by NTP (`timedatectl set-ntp true`)."
    if skew > AHEAD_S or skew < -SKEW_REFUSES_S:
        return Finding("clock", "refuse", said, "K829", remedy)
    if skew < -SKEW_WARNS_S:
        return Finding("clock", "warn", said, "K829", remedy)
    return Finding("clock", "ok", said)


def _koinon(offer: joining.Offer, accepted: Membership | None) -> Finding:
    here, there = version("koinon"), offer.koinon_version
    if accepted is not None and _numbers(there) < _numbers(accepted.koinon_version):
        return Finding(
            "koinon",
            "refuse",
            f"The server went back to Koinon {there}; you joined it with {accepted.koinon_version}.",
            "K830",
            "Do not follow it unasked: an old version has old faults. Ask the operator.",
        )
    if here == there:
        return Finding("koinon", "ok", f"Koinon {here}, as the server.")
    older = _numbers(there) < _numbers(here)
    said = f"The server runs Koinon {there}, {'older' if older else 'newer'} than {here} here."
    remedy = "Ask the operator to update the server." if older else f"`pip install koinon=={there}`."
    return Finding("koinon", "refuse", said, "K830", remedy)


def _flower(offer: joining.Offer) -> Finding:
    here, there = version("flwr"), offer.flower_version
    if here == there:
        return Finding("flower", "ok", f"Flower {here}, as the server.")
    said = f"The server runs Flower {there}, here is {here}."
    level: Level = "warn" if _numbers(here)[:2] == _numbers(there)[:2] else "refuse"
    return Finding("flower", level, said, "K831", f"`pip install flwr=={there}`.")


def _code(offer: joining.Offer, accepted: Membership | None) -> Finding:
    checks: list[Callable[[], None]] = [
        lambda: pinning.check_code(accepted.code_sha256 if accepted else ""),
        lambda: pinning.check_code(offer.code_sha256),
        lambda: pinning.check_app(offer.app_sha256),
    ]
    for check in checks:
        try:
            check()
        except KoinonError as error:
            return Finding("code", "refuse", error.message, "K839", error.remedy)
    return Finding("code", "ok", f"Koinon's code is {offer.code_sha256[:12]}, as the server's.")


def _encoder(offer: joining.Offer) -> Finding:
    uri = offer.policy.encoder
    pinned = offer.encoder_sha256 or offer.policy.encoder_sha256
    if uri == "none":
        return Finding("encoder", "ok", "No learner reads texts.")
    if offer.policy.encoder_sha256 != offer.encoder_sha256:
        return Finding(
            "encoder",
            "refuse",
            "The offer names another encoder than its policy pins.",
            "K833",
            "Do not join; ask the operator.",
        )
    from koinon.space import open_encoder

    try:
        found = open_encoder(uri).fingerprint
    except KoinonError as error:
        return Finding("encoder", "refuse", error.message, "K833", error.remedy)
    if pinned and found != pinned:
        return Finding(
            "encoder",
            "refuse",
            f"The encoder {uri} here ({found[:12]}) is not the federation's ({pinned[:12]}).",
            "K833",
            "Fetch the very weights that the operator names; vectors of two encoders do not compare.",
        )
    if not pinned:
        return Finding(
            "encoder", "warn", f"The policy does not pin the weights of {uri}.", "K833", "Ask the operator to pin them."
        )
    return Finding("encoder", "ok", f"{uri} {found[:12]}, as the policy pins.")


def _of(check: str, error: KoinonError) -> Finding:
    return Finding(check, "refuse", error.message, error.code, error.remedy)


def _refused(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.level == "refuse"]


def _numbers(said: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", said)[:3])
