"""Small, plausible study results, made from per-user values as an evaluation would give them."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from koinon.evaluation import Evaluation
from koinon.studies.report import DemoResults, PartnerResult, Sample, SampleItem, SpaceMap
from koinon.studies.report.results import Counts, Curve, Egress, Federation

SHOPS = {
    # name: (domain, language, region, protocol, test users, NDCG@10 of local, local_space, gram, adapters, pooled)
    "movies-drama": ("movies", "en", None, "time", 420, 0.081, 0.084, 0.088, 0.083, 0.091),
    "movies-action": ("movies", "en", None, "time", 510, 0.092, 0.094, 0.096, 0.097, 0.101),
    "books-en-us": ("books", "en", "us", "holdout", 900, 0.068, 0.076, 0.079, 0.077, 0.080),
    "books-en-ca": ("books", "en", "ca", "holdout", 500, 0.055, 0.071, 0.079, 0.074, 0.080),
    "books-en-uk": ("books", "en", "uk", "holdout", 300, 0.058, 0.075, 0.077, 0.078, 0.079),
    "books-en-au": ("books", "en", "au", "holdout", 180, 0.049, 0.064, 0.075, 0.068, 0.076),
    "books-en-intl": ("books", "en", "intl", "holdout", 800, 0.061, 0.070, 0.074, 0.072, 0.077),
    "books-de": ("books", "de", None, "holdout", 380, 0.046, 0.060, 0.050, 0.062, 0.063),
    "books-fr": ("books", "fr", None, "holdout", 180, 0.071, 0.085, 0.083, 0.080, 0.086),
    "books-es": ("books", "es", None, "holdout", 190, 0.064, 0.074, 0.075, 0.079, 0.078),
}
SLICE_SHARE = {
    "all": 1.0, "cold_items": 0.12, "cold_among_cold": 0.12, "cold_users": 0.3, "long_tail": 0.5,
    "known_elsewhere": 0.4,
}  # fmt: skip
COLD_LEVEL = {"local": 0.01, "local_space": 0.06, "federated_gram": 0.055, "federated_adapters": 0.07, "pooled": 0.075}


def _evaluation(level: float, cold: float, users: int, luck: np.ndarray, rng: np.random.Generator) -> Evaluation:
    """Per-user values with the mean asked for; the arms of a partner share ``luck``, so that they are paired."""
    frames = []
    for slice_, share in SLICE_SHARE.items():
        rows = np.arange(users)[: max(int(users * share), 3)]
        mean = {"cold_items": level * 0.15, "cold_among_cold": cold}.get(slice_, level)
        noise = 0.99 * luck[rows] + 0.01 * rng.random(len(rows))
        hit = noise < np.clip(mean / 0.45, 0, 1)
        value = np.where(hit, 0.45 * (0.6 + 0.8 * (luck[rows] * 97 % 1)), 0.0)
        frames.append(
            pl.DataFrame({
                "slice": [slice_] * len(rows), "row": rows, "user": rows.astype(np.int32),
                "targets": np.ones(len(rows), int),
                "ndcg@10": np.clip(value, 0, 1), "recall@10": hit.astype(float), "hr@10": hit.astype(float),
                "mrr@10": np.clip(value * 0.8, 0, 1),
            })
        )  # fmt: skip
    return Evaluation(pl.concat(frames), 10, {"coverage@10": 0.4 + 0.3 * rng.random(), "gini@10": 0.8})


def _partner(name: str, rng: np.random.Generator) -> PartnerResult:
    domain, language, region, protocol, users, local, space, gram, adapters, pooled = SHOPS[name]
    luck = rng.random(users)
    levels = {
        "local": local, "local_space": space, "federated_gram": gram, "federated_adapters": adapters, "pooled": pooled,
    }  # fmt: skip
    arms = {arm: _evaluation(level, COLD_LEVEL[arm], users, luck, rng) for arm, level in levels.items()}
    chosen = "federated_gram" if gram >= adapters else "federated_adapters"
    arms["federated"] = arms[chosen]
    arms = {
        arm: arms[arm]
        for arm in ("local", "local_space", "federated_gram", "federated_adapters", "federated", "pooled")
    }
    attributes = {
        "user": np.arange(users, dtype=np.int32),
        "age_band": rng.choice(["<25", "25–34", "35–49", "50+"], users),
    }
    if domain == "movies":
        attributes["gender"] = rng.choice(["F", "M"], users, p=[0.3, 0.7])
    else:
        attributes["country"] = rng.choice(["us", "de", "es", "pt", "at"], users, p=[0.5, 0.3, 0.15, 0.04, 0.01])
    return PartnerResult(
        domain=domain,
        language=language,
        region=region,
        protocol=protocol,
        counts=Counts(
            users=users * 3,
            items=1800 + users,
            events=users * 21,
            test_users=users,
            cold_items=140,
            cold_users=users // 4,
        ),
        arms=arms,
        chosen=chosen,
        chance=_evaluation(0.004, 0.014, users, luck, rng),
        attributes=pl.DataFrame(attributes),
    )


@pytest.fixture(scope="session")
def demo_results() -> DemoResults:
    return make_demo_results()


def make_demo_results() -> DemoResults:
    rng = np.random.default_rng(7)
    partners = {name: _partner(name, rng) for name in SHOPS}
    curves = [
        Curve(
            partner=name,
            recommender=arm,
            rounds=list(range(1, rounds + 1)),
            values=[SHOPS[name][column] * (1 - 0.5 * 0.75**r) + 0.0008 * rng.standard_normal() for r in range(rounds)],
            references={"local_space": SHOPS[name][6], "local": SHOPS[name][5]},
        )
        for name in SHOPS
        for arm, rounds, column in (("federated_adapters", 12, 8), ("federated_gram", 2, 7))
    ]
    egress = {
        name: Egress(messages=16, bytes=3_200_000, kinds={"adapters": 2_100_000, "sums": 1_100_000}) for name in SHOPS
    }
    return DemoResults(
        partners=partners,
        federation=Federation(
            mode="simulation",
            rounds={"federated_gram": 2, "federated_adapters": 12},
            bytes=32_000_000,
            overhead_seconds=7.4,
            unprotected_sums=True,
            egress=egress,
            vanished={"books-fr": ["federated_adapters 7"]},
        ),
        seed=7,
        command="koinon demo --out koinon-demo --seed 7",
        curves=curves,
        settings={"encoder": "packaged:multilingual", "rounds": 12},
        caps={"items_per_partner": 4000, "users_per_partner": 8000},
        timings={
            "fetch": 20.2,
            "ingest": 24.1,
            "encode": 180.5,
            "baselines": 95.0,
            "federate": 140.4,
            "evaluate": 22.0,
        },
    )


@pytest.fixture(scope="session")
def space_map() -> SpaceMap:
    return make_space_map()


def make_space_map(points: int = 3000) -> SpaceMap:
    rng = np.random.default_rng(3)
    names = list(SHOPS)
    which = rng.integers(len(names), size=points)
    centres = rng.normal(size=(24, 2)) * 3
    xy = centres[rng.integers(24, size=points)] + rng.normal(size=(points, 2)) + 0.2 * which[:, None]
    return SpaceMap(
        xy=xy.astype(np.float32),
        partner=tuple(names[w] for w in which),
        language=tuple(SHOPS[names[w]][1] for w in which),
        title=tuple(f'Title {i} <of> "{names[w]}" & co' for i, w in enumerate(which)),
        method="A seeded sample, reduced by PCA to 50 dimensions and laid out by t-SNE.",
    )


@pytest.fixture(scope="session")
def samples() -> list[Sample]:
    return make_samples()


def make_samples() -> list[Sample]:
    german = tuple(
        SampleItem(title, creator, "de", (f"close to “{reason}”, which you liked",))
        for title, creator, reason in (
            ("Das fremde Gesicht", "Mary Higgins Clark", "Remember Me"),
            ("Der Herr der Ringe", "J. R. R. Tolkien", "The Hobbit"),
            ("Die Säulen der Erde", "Ken Follett", "Eye of the Needle"),
            ("Das Parfum", "Patrick Süskind", "Perfume"),
            ("Schlafes Bruder", "Robert Schneider", "Perfume"),
        )
    )
    return [
        Sample("An English reader comes to the German shop", "books-de", german,
               known=("The Hobbit", "Remember Me", "Perfume")),
        Sample("A wish in words", "books-en-uk", german[:3], query="a dark detective story in Scotland"),
        Sample("A reader known to the Spanish shop", "books-es", german,
               known=("La sombra del viento", "Cien años de soledad")),
        Sample("Three titles typed in three languages", "movies-drama", german[:4],
               known=("Le Petit Prince", "Das Boot", "Heat")),
    ]  # fmt: skip
