"""Whether a partner's data have drifted since the federation's last run. The judgement stays here; a flag may leave.

What is new is held against what was there: the **population stability index** over popularity, Σ (q − p) ln(q / p) with
p and q the shares of the earlier and of the new events that fall on the works of each popularity class (Siddiqi, Credit
Risk Scorecards, 2006: above .25 the population is another one), and the share of the new events on works unheard of
before. Chance moves the index too: by about χ² (classes − 1) · (1/n + 1/m) (Yurdakul & Naranjo, Journal of Risk Model
Validation, 2020), which is allowed for. Data that were lost count as drift as well.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import chi2

from koinon.config import atomic_path, write_atomically

if TYPE_CHECKING:
    from koinon.clients.partner_state import PartnerState

__all__ = ["Drift", "compare", "drifted"]

CLASSES = 5
"""Of popularity; each held about as many of the earlier events."""
INDEX = 0.25
NEW_WORKS = 0.5
LOST = 0.5
FEWEST = 100
"""New events; with fewer nothing is said of them."""
_CHANCE = 0.999
_FRESH = 0.5
"""Added to every class, so that an empty one has a logarithm."""

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Drift:
    """How a partner's data differ from those of the run before.

    Attributes
    ----------
    events, items, users
        How many there are now.
    new_events
        Events on works that have more of them now.
    new_works
        Share of the new events on works that had none then; in [0, 1].
    more_users
        Growth of the users, relative; negative where there are fewer.
    index, allowed
        Population stability index over the works known then, and how much of it is within chance and custom.
    drifted
        Whether it is so far out that learning should not go on unseen.
    """

    events: int
    items: int
    users: int
    new_events: int
    new_works: float
    more_users: float
    index: float
    allowed: float
    drifted: bool


def compare(then: Counts, now: Counts, users_then: int, users: int) -> Drift:
    """Hold a partner's events against those of the run before.

    Parameters
    ----------
    then, now
        Events of each work ``int64[works]``, the same works in the same order, 0 where there were none.
    users_then, users
        People with events.
    """
    added = np.maximum(now - then, 0)
    known = then > 0
    fresh = int(added.sum())
    on_new = float(added[~known].sum() / fresh) if fresh else 0.0
    index, allowed = _index(then[known], added[known]) if fresh >= FEWEST and known.any() else (0.0, INDEX)
    lost = now.sum() < (1 - LOST) * then.sum()
    return Drift(
        events=int(now.sum()),
        items=int((now > 0).sum()),
        users=users,
        new_events=fresh,
        new_works=on_new,
        more_users=users / users_then - 1 if users_then else 0.0,
        index=index,
        allowed=allowed,
        drifted=bool(index > allowed or (fresh >= FEWEST and on_new > NEW_WORKS) or lost),
    )


def _index(then: Counts, added: Counts) -> tuple[float, float]:
    """The index over classes of popularity, and the bound it is held against."""
    order = np.argsort(-then, kind="stable")
    reached = np.cumsum(then[order]) - then[order] / 2
    classes = np.empty(len(then), dtype=np.int64)
    classes[order] = (reached * CLASSES / then.sum()).astype(np.int64)
    p, q = (np.bincount(classes, weights=counts, minlength=CLASSES) + _FRESH for counts in (then, added))
    p, q = p / p.sum(), q / q.sum()
    index = float(((q - p) * np.log(q / p)).sum())
    chance = float(chi2.ppf(_CHANCE, CLASSES - 1)) * (1 / then.sum() + 1 / max(added.sum(), 1))
    return index, INDEX + chance


def drifted(state: PartnerState, run: str) -> bool:
    """Whether the data have drifted since the run before; what was found stays in ``models/drift.json``.

    Beside it ``models/seen.parquet`` keeps each work's number of events for the next time. Both are derived from
    events, and go with ``models`` when a person is forgotten.
    """
    folder = state.home.models
    said = _read(folder / "drift.json")
    if said.get("run") == run:  # asked again by a server that was killed meanwhile
        return bool(said["drifted"])
    events = state.vault.tables().events
    now = events.group_by("item_id").agg(pl.len().cast(pl.Int64).alias("now")).sort("item_id")
    users = events["user_id"].n_unique()
    found = None
    if said and (folder / "seen.parquet").is_file():
        then = pl.read_parquet(folder / "seen.parquet")
        both = then.join(now, on="item_id", how="full", coalesce=True).fill_null(0)
        found = compare(both["then"].to_numpy(), both["now"].to_numpy(), int(str(said["users"])), users)
    with atomic_path(folder / "seen.parquet") as target:
        now.rename({"now": "then"}).write_parquet(target)
    told = asdict(found) if found else {"users": users, "drifted": False}
    write_atomically(folder / "drift.json", json.dumps({"run": run, **told}, indent=2) + "\n")
    return bool(told["drifted"])


def _read(path: Path) -> dict[str, object]:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}
