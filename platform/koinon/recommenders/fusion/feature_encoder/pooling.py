"""Several partners' catalogues and events as one domain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from koinon.data import Domain, Interactions

__all__ = ["pooled"]


def pooled(domains: Sequence[Domain], name: str = "pooled") -> Domain:
    """Put domains side by side: nobody and nothing of one is taken for somebody or something of another.

    Ids get their domain's name before them. Times stay if all domains have them; marks are left out, as their meaning
    differs.

    Raises
    ------
    ValueError
        There is no domain, or two have one name.
    """
    names = [domain.name for domain in domains]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"domains of different names are needed, not {names}")
    items = pl.concat([domain.items.with_columns(item_id=f"{domain.name}/" + pl.col("item_id")) for domain in domains])
    users = tuple(f"{domain.name}/{user}" for domain in domains for user in domain.user_ids)
    first_user = np.cumsum([0, *(domain.n_users for domain in domains)])
    first_item = np.cumsum([0, *(domain.n_items for domain in domains)])
    parts = [domain.events for domain in domains]
    times = [part.time for part in parts if part.time is not None]
    events = Interactions(
        np.concatenate([part.user + start for part, start in zip(parts, first_user[:-1], strict=True)]).astype(
            np.int32
        ),
        np.concatenate([part.item + start for part, start in zip(parts, first_item[:-1], strict=True)]).astype(
            np.int32
        ),
        np.concatenate(times) if len(times) == len(parts) else None,
    )
    return Domain(name, items, users, events)
