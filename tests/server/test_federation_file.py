"""The federation's file, and what an output folder holds."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from koinon.errors import ConfigError, FederationError, PrivacyError, RecommenderError
from koinon.recommenders.protocol import Release
from koinon.server import FederationConfig, read_release
from koinon.server.checkpoints import Checkpoint, Checkpoints, RunState
from koinon.server.progress import ProgressLog, ProgressReader
from koinon.server.state.release_book import ReleaseBook

FILE = """
name = "shops"
[partners]
books-de = "shops/de"
books-fr = "shops/fr"
[[learners]]
name = "federated_popularity"
settings = { rounds = 2, clip = 1.5 }
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "shops.toml"
    path.write_text(text)
    return path


def test_folders_are_taken_from_the_files_own(tmp_path: Path) -> None:
    config = FederationConfig.load(written(tmp_path, FILE))
    assert config.partners["books-de"] == tmp_path / "shops" / "de"
    assert config.learners[0].settings == {"rounds": 2, "clip": 1.5}


def test_a_partner_without_a_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"K110.*books-de.*koinon partner init"):
        FederationConfig.load(written(tmp_path, FILE)).check_folders()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (('books-fr = "shops/fr"', 'books-fr = "shops/de"'), "share one folder"),
        (('name = "shops"', 'name = "shops"\nminimum_participants = 3'), "more than the 2 partners"),
        (('name = "shops"', 'name = "shops"\nmetric = ["x"]'), "metric"),
        (('name = "shops"', 'name = "My Shops"'), "name"),
        (("[[learners]]", '[[learners]]\nname = "federated_popularity"\n[[learners]]'), "named twice"),
    ],
)
def test_a_wrong_key_is_named(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        FederationConfig.load(written(tmp_path, FILE.replace(*change)))
    assert caught.value.code == "K103"
    assert says in str(caught.value)


def test_one_learner_is_trained_alone_with_its_own_settings_or_the_defaults(tmp_path: Path) -> None:
    config = FederationConfig.load(written(tmp_path, FILE + '[[learners]]\nname = "federated_gram"\n'))
    (listed,) = config.training_only("federated_popularity").learners
    assert listed == config.learners[0]
    (other,) = config.training_only("federated_hstu").learners
    assert (other.name, other.settings) == ("federated_hstu", {})
    assert config.training_only("federated_hstu").partners == config.partners
    with pytest.raises(RecommenderError, match="K440"):
        config.training_only("federated_magic")


def test_a_learner_that_promises_no_budget_is_refused_under_one(tmp_path: Path) -> None:
    secure = 'aggregation = "secure"\nminimum_participants = 3\nmetrics = []\n'
    folders = 'books-es = "shops/es"\n'
    budget = "[split]\nminimum_item_events = 1\n[privacy]\nepsilon = 4.0\ndelta = 1e-6\npeople = 1000\npartners = 3\n"
    text = FILE.replace('name = "shops"\n', 'name = "shops"\n' + secure).replace(
        "[[learners]]", folders + "[[learners]]"
    )
    config = FederationConfig.load(written(tmp_path, text + budget))
    assert config.privacy is not None
    with pytest.raises(PrivacyError, match="K675"):
        config.training_only("federated_hstu")


def test_the_policys_fingerprint_changes_with_what_members_agree_on_and_with_nothing_else(tmp_path: Path) -> None:
    config = FederationConfig.load(written(tmp_path, FILE))
    moved = config.model_copy(update={"partners": {n: Path("/elsewhere") / n for n in config.partners}, "at_once": 7})
    wider = config.model_copy(update={"metrics": (*config.metrics, "users_by_age")})
    assert config.policy_sha256() == moved.policy_sha256() != wider.policy_sha256()


def checkpoint(number: int = 2) -> Checkpoint:
    arrays = {"counts": np.arange(4, dtype=np.float32), "hashes": np.array([1, 2**63], dtype=np.uint64)}
    release = Release(number, "federated_popularity", arrays, {"note": "unprotected", "rate": 0.5, "n": 3})
    return Checkpoint(release, {"momentum": np.ones((2, 2))}, ("a", "b"))


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path)
    kept.save("federated_popularity", checkpoint())
    found = kept.load("federated_popularity")
    assert found is not None
    assert (found.release.number, found.release.info, found.participants) == (
        2,
        {"note": "unprotected", "rate": 0.5, "n": 3},
        ("a", "b"),
    )
    for name, array in checkpoint().release.arrays.items():
        assert found.release.arrays[name].dtype == array.dtype
        assert np.array_equal(found.release.arrays[name], array)
    assert np.array_equal(found.plan_state["momentum"], np.ones((2, 2)))
    assert kept.load("another") is None


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path)
    kept.save("federated_popularity", checkpoint())
    path = tmp_path / "state" / "federated_popularity.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(FederationError, match="K710"):
        kept.load("federated_popularity")


def test_a_release_is_published_once_and_held_against_its_manifest(tmp_path: Path) -> None:
    book, state = ReleaseBook(tmp_path, "shops"), RunState("run", "0" * 64)
    folder = book.publish("federated_popularity", checkpoint(), state).folder
    assert book.publish("federated_popularity", checkpoint(), state).folder == folder
    assert np.array_equal(read_release(folder).arrays["counts"], checkpoint().release.arrays["counts"])
    manifest = folder / "manifest.json"
    manifest.write_text(re.sub('"sha256": "..', '"sha256": "00', manifest.read_text(), count=1))
    with pytest.raises(FederationError, match="K711"):
        read_release(folder)


def test_a_reader_never_sees_half_an_event(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    reader = ProgressReader(path)
    assert list(reader.new()) == []
    ProgressLog(path)("round", round=1)
    with path.open("a") as file:
        file.write('{"event": "rou')
    assert [event["round"] for event in reader.new()] == [1]
    with path.open("a") as file:
        file.write('nd", "round": 2}\n')
    assert [event["round"] for event in reader.new()] == [2]
