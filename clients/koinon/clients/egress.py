"""The egress log, read back: what left this partner, when, why, and how much of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from koinon.errors import PrivacyError

__all__ = ["Crossing", "read_egress", "totals"]


@dataclass(frozen=True)
class Crossing:
    """One line of the log.

    Attributes
    ----------
    time
        When it was let out, UTC.
    purpose
        Why, e.g. ``contribute federated_gram``.
    round
        1-based; 0 outside a round.
    what
        In words: tensors with their shapes, figures, keys, texts, fields, or a code.
    bytes
        How many left.
    charge
        What it cost of the privacy budget, as it was charged; ``None`` where nothing was.
    sha256
        Of the bytes.
    """

    time: datetime
    purpose: str
    round: int
    what: str
    bytes: int
    charge: Any
    sha256: str


def read_egress(folder: Path) -> list[Crossing]:
    """Return everything that ever left a partner's folder, oldest first.

    Raises
    ------
    PrivacyError
        K651 a line of the log is damaged; names it.
    """
    path = folder / "federation" / "egress.jsonl"
    if not path.exists():
        return []
    found = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                found.append(_crossing(json.loads(line)))
            except (ValueError, KeyError, TypeError) as error:
                raise PrivacyError(
                    "K651", f"Line {number} of {path} is damaged.", "Compare it with a backup: the log is append-only."
                ) from error
    return found


def totals(crossings: list[Crossing]) -> dict[str, tuple[int, int]]:
    """Return by purpose how often something left and how many bytes."""
    found: dict[str, tuple[int, int]] = {}
    for crossing in crossings:
        times, size = found.get(crossing.purpose, (0, 0))
        found[crossing.purpose] = (times + 1, size + crossing.bytes)
    return found


def _crossing(line: Mapping[str, Any]) -> Crossing:
    return Crossing(
        time=datetime.fromisoformat(line["time"]),
        purpose=str(line["purpose"]),
        round=int(line["round"]),
        what="; ".join(_words(line)) or "nothing but that it was done",
        bytes=int(line["bytes"]),
        charge=line.get("charge"),
        sha256=str(line["sha256"]),
    )


def _words(line: Mapping[str, Any]) -> Iterator[str]:
    shapes = zip(line["names"], line["dtypes"], line["shapes"], strict=True)
    yield from (f"{name} {dtype}{shape}" for name, dtype, shape in shapes)
    if line["users"]:
        yield f"for {line['users']:,} people"
    if line["metrics"]:
        yield f"figures {', '.join(line['metrics'])}"
    if line["keys"]:
        yield f"{line['keys']:,} keys"
    if line["texts"]:
        yield f"{line['texts']:,} texts"
    if line.get("fields"):
        yield f"fields {', '.join(line['fields'])}"
    if line["code"]:
        yield f"code {line['code']}"
