"""A small cinema in which taste follows age and genre: enough to learn from, and quick."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
import pytest
import torch

from koinon.data import Tables
from koinon.data.building import item_table
from koinon.data.tables import EVENT_SCHEMA
from koinon.recommenders.clicks import ClickData, click_data

PEOPLE, FILMS = 120, 40
GENRES = ("comedy", "drama", "horror", "western")
AGES = ("child", "adult", "elder")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Small products on one thread: on a busy machine the second costs more than it gives."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def cinema() -> Tables:
    """Ratings 1 to 5; a fifth of the people come when the others have gone."""
    rng = np.random.default_rng(3)
    genre, age = np.arange(FILMS) % len(GENRES), np.arange(PEOPLE) % len(AGES)
    quality = rng.normal(size=FILMS)
    liking = rng.normal(size=(len(AGES), len(GENRES))) * 1.5
    rows = []
    for person in range(PEOPLE):
        for film in rng.permutation(FILMS)[:30]:
            pull = quality[film] + liking[age[person], genre[film]] + rng.normal()
            start = 0 if person < PEOPLE * 0.8 else 1400
            rows.append((person, int(film), int(np.clip(np.round(3 + pull), 1, 5)), start + int(rng.integers(1000))))
    events = pl.DataFrame(
        {
            "user_id": [f"p{person:03d}" for person, *_ in rows],
            "item_id": [f"f{film:02d}" for _, film, *_ in rows],
            "timestamp": [1_600_000_000_000 + 1000 * time for *_, time in rows],
            "kind": ["rating"] * len(rows),
            "weight": [float(rating) for _, _, rating, _ in rows],
        }
    ).cast(dict(EVENT_SCHEMA))
    names = [f"f{film:02d}" for film in range(FILMS)]
    said = [f"{GENRES[genre[film]]} film {film}" for film in range(FILMS)]
    # every film also carries a second genre that says nothing
    kinds = [[GENRES[genre[film]], f"shelf {film % 3}"] for film in range(FILMS)]
    people = pl.DataFrame(
        {
            "user_id": [f"p{person:03d}" for person in range(PEOPLE)],
            "age": [AGES[age[person]] for person in range(PEOPLE)],
            "gender": ["female" if person % 2 else "male" for person in range(PEOPLE)],
        }
    )
    return Tables(item_table(names, said, said, categories=kinds), events, people)


@pytest.fixture(scope="session")
def clicks(cinema) -> ClickData:
    return click_data("cinema", cinema)
