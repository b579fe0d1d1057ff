"""Whether a partner's data have drifted: shares, chance, and what is kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from koinon.clients.drift import compare, drifted
from koinon.clients.home import Home
from koinon.clients.partner_state import PartnerState
from koinon.data import Tables, Vault

SIZES = [(40, 480, 120), (2000, 5000, 1000), (20_000, 50_000, 10_000)]


@pytest.mark.parametrize(("works", "events", "added"), SIZES)
def test_the_same_tastes_are_rarely_taken_for_drift(works: int, events: int, added: int) -> None:
    """Popularities that honestly wander by a third."""
    rng = np.random.default_rng(works)
    false = 0
    for _ in range(100):
        share = 1 / np.arange(1, works + 1)
        wandered = share * rng.gamma(10, 0.1, works)
        then = rng.multinomial(events, share / share.sum())
        false += compare(then, then + rng.multinomial(added, wandered / wandered.sum()), 10, 10).drifted
    assert false <= 1


@pytest.mark.parametrize(("works", "events", "added"), SIZES)
def test_other_tastes_are_found(works: int, events: int, added: int) -> None:
    rng = np.random.default_rng(works)
    share = 1 / np.arange(1, works + 1)
    share /= share.sum()
    found = 0
    for _ in range(50):
        then = rng.multinomial(events, share)
        found += compare(then, then + rng.multinomial(added, rng.permutation(share)), 10, 10).drifted
    assert found >= 48


def test_the_index_is_that_of_its_definition() -> None:
    then = np.repeat([1000, 1000, 1000, 1000, 1000], 1)
    added = np.array([4000, 1000, 1000, 1000, 1000])
    p, q = np.full(5, 0.2), added / added.sum()
    found = compare(then, then + added, 10, 10)
    assert found.index == pytest.approx(float(((q - p) * np.log(q / p)).sum()), rel=1e-3)


def test_nothing_new_is_no_drift_and_lost_data_are() -> None:
    then = np.array([100, 50, 10])
    assert not compare(then, then, 5, 5).drifted
    assert compare(then, then // 3, 5, 2).drifted


def test_a_flood_of_unheard_works_is_drift() -> None:
    then = np.array([500, 300, 0, 0])
    found = compare(then, then + np.array([50, 30, 200, 200]), 10, 12)
    assert (found.drifted, found.new_events) == (True, 480)
    assert found.new_works == pytest.approx(400 / 480)
    assert found.more_users == pytest.approx(0.2)


def test_the_figures_stay_at_the_partner_and_a_run_asked_again_says_the_same(make_shop: Callable[..., Path]) -> None:
    folder = make_shop("alpha", users=100)
    vault = Vault(folder)
    state = PartnerState(Home(folder, "alpha", ""), vault, None)  # type: ignore[arg-type]
    assert not drifted(state, "one")
    tables = vault.tables()
    # everybody takes the three least popular works besides
    counts = tables.events.group_by("item_id").len().sort("len")["item_id"].to_list()
    more = [tables.events.unique("user_id").with_columns(pl.lit(item).alias("item_id")) for item in counts[:3]]
    Vault.create(folder, vault.config, Tables(tables.items, pl.concat([tables.events, *more]), tables.users))
    state = PartnerState(state.home, Vault(folder), None)  # type: ignore[arg-type]
    assert [drifted(state, "two"), drifted(state, "two"), drifted(state, "three")] == [True, True, False]
    said: dict[str, Any] = json.loads((folder / "models" / "drift.json").read_text())
    assert (said["run"], said["new_events"]) == ("three", 0)
