"""Nothing is encoded twice; a kill or a second process harms no cache."""

import multiprocessing
import os
import pickle
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from koinon.errors import SpaceError
from koinon.space import CachedSpace, Space, open_space
from koinon.space import cached as cached_module
from koinon.space.cache import VectorCache, text_key


@pytest.fixture
def space(encoder, tmp_path) -> CachedSpace:
    return CachedSpace(encoder, tmp_path)


def random_vectors(n, d=4, seed=0):
    rows = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_it_is_a_space(space):
    assert isinstance(space, Space)
    assert (space.dimension, len(space.fingerprint)) == (512, 64)


def test_vectors_come_in_the_order_given_and_equal_the_encoders(space, encoder, titles):
    expected = encoder.encode(titles)
    np.testing.assert_allclose(space.encode(titles), expected, atol=1e-5)
    np.testing.assert_allclose(space.encode(titles[::-1]), expected[::-1], atol=1e-5)


def test_a_text_is_encoded_once_even_within_one_call(space):
    vectors = space.encode(["Emma", "Faust", "Emma"])
    assert space.encoded_texts == 2
    np.testing.assert_array_equal(vectors[0], vectors[2])


def test_a_changed_catalogue_costs_only_its_new_texts(space):
    space.encode(["Emma", "Faust"])
    space.encode(["Emma", "Hamlet", "Faust"])
    assert space.encoded_texts == 3


def test_another_process_or_day_finds_everything_and_loads_no_weights(space, tmp_path, monkeypatch, many_titles):
    first = space.encode(many_titles)
    again = open_space("use-multilingual", tmp_path)
    monkeypatch.setattr(again.encoder, "encode", None)
    np.testing.assert_array_equal(again.encode(many_titles), first)
    assert again.encoded_texts == 0
    assert "_network" not in vars(again.encoder)


def test_other_settings_have_a_cache_of_their_own(space, tmp_path):
    space.encode(["Emma"])
    other = open_space("use-multilingual?prompt=Book: {text}", tmp_path)
    assert other.missing(["Emma"]) == ["Emma"]


def test_what_users_type_is_not_written_down(space, tmp_path):
    known = space.encode(["Emma"])
    vectors = space.encode(["my secret wish", "Emma", "my secret wish"], remember=False)
    np.testing.assert_array_equal(vectors[1], known[0])
    np.testing.assert_array_equal(vectors[0], vectors[2])
    assert open_space("use-multilingual", tmp_path).missing(["my secret wish", "Emma"]) == ["my secret wish"]


def test_progress_counts_new_texts_and_is_silent_without_any(space, monkeypatch):
    monkeypatch.setattr(cached_module, "_SEGMENT_TEXTS", 2)
    seen = []
    space.encode(["a", "b", "c", "a"], progress=lambda done, total: seen.append((done, total)))
    space.encode(["a", "b"], progress=lambda done, total: seen.append((done, total)))
    assert seen == [(2, 3), (3, 3)]


def test_an_interrupted_run_keeps_what_was_finished(space, encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(cached_module, "_SEGMENT_TEXTS", 2)

    def stop(done, total):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        space.encode(list("abcdefgh"), progress=stop)
    again = CachedSpace(encoder, tmp_path)
    again.encode(list("abcdefgh"))
    assert again.encoded_texts == 4


@pytest.mark.parametrize(("texts", "named"), [(["a", None], "Text 1.*NoneType"), ("Emma", "One string")])
def test_what_is_no_text_is_refused(space, texts, named):
    with pytest.raises(SpaceError, match=f"K308.*{named}"):
        space.encode(texts)


def test_broken_unicode_is_mended(space):
    assert np.isfinite(space.encode(["lone \ud800 surrogate"])).all()


def test_vectors_that_are_not_finite_never_reach_the_cache(space):
    with pytest.raises(SpaceError, match="K307"):
        space.remember(["a"], np.full((1, 512), np.nan, np.float32))
    assert space.missing(["a"]) == ["a"]


def test_a_pickled_space_finds_its_cache(space):
    space.encode(["Emma"])
    twin = pickle.loads(pickle.dumps(space))
    assert twin.missing(["Emma"]) == []


def test_no_texts_give_no_rows(space):
    assert space.encode([]).shape == (0, 512)


def test_fifty_thousand_lookups_take_less_than_a_second(tmp_path):
    texts = [f"title number {i}" for i in range(50_000)]
    VectorCache(tmp_path, "f" * 64, 64).add([text_key(t) for t in texts], random_vectors(50_000, 64))
    began = time.process_time()
    cache = VectorCache(tmp_path, "f" * 64, 64)
    vectors = cache.read([text_key(text) for text in texts])
    assert time.process_time() - began < 1.0
    np.testing.assert_array_equal(vectors, random_vectors(50_000, 64))


def test_many_small_segments_become_one(tmp_path):
    cache = VectorCache(tmp_path, "f" * 64, 4)
    watcher = VectorCache(tmp_path, "f" * 64, 4)
    vectors = random_vectors(60)
    for row in range(60):
        cache.add([text_key(str(row))], vectors[row : row + 1])
        if row == 10:
            watcher.refresh()
    keys = [text_key(str(row)) for row in range(60)]
    assert len(list(cache.folder.glob("*.keys.npy"))) < 30
    assert len(list(cache.folder.glob("*.vectors.npy"))) == len(list(cache.folder.glob("*.keys.npy")))
    watcher.refresh()
    for reader in (cache, watcher, VectorCache(tmp_path, "f" * 64, 4)):
        np.testing.assert_array_equal(reader.read(keys), vectors)


def test_damaged_and_half_written_segments_are_passed_over(tmp_path):
    cache = VectorCache(tmp_path, "f" * 64, 4)
    for row in range(4):
        cache.add([text_key(str(row))], random_vectors(1, seed=row))
    keys = sorted(cache.folder.glob("*.keys.npy"))
    keys[0].write_bytes(b"no array")
    keys[1].with_name(keys[1].name.replace("keys", "vectors")).write_bytes(b"")
    keys[2].unlink()
    survivors = VectorCache(tmp_path, "f" * 64, 4)
    assert len(survivors) == 1


def test_a_cache_of_another_width_is_refused(tmp_path):
    VectorCache(tmp_path, "f" * 64, 4).add([text_key("a")], random_vectors(1))
    with pytest.raises(SpaceError, match=r"K310.*length 4, not 5"):
        VectorCache(tmp_path, "f" * 64, 5)


def test_a_folder_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SpaceError, match="K310"):
        VectorCache(tmp_path / "file", "f" * 64, 4)


def write_for_ever(folder: str, name: str) -> None:
    cache = VectorCache(Path(folder), "f" * 64, 4)
    for number in range(1_000_000):
        texts = [f"{name} {number} {i}" for i in range(8)]
        cache.add([text_key(t) for t in texts], np.full((8, 4), number, np.float32))


def test_two_writers_killed_at_any_moment_leave_a_sound_cache(tmp_path):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write_for_ever, args=(str(tmp_path), name)) for name in ("one", "two")]
    for writer in writers:
        writer.start()
    reader = VectorCache(tmp_path, "f" * 64, 4)
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        reader.refresh()
        if all(text_key(f"{name} 40 0") in reader for name in ("one", "two")):
            break
        time.sleep(0.02)
    for writer in writers:
        assert writer.pid is not None
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
    after = VectorCache(tmp_path, "f" * 64, 4)
    for name in ("one", "two"):
        for number in range(40):
            keys = [text_key(f"{name} {number} {i}") for i in range(8)]
            np.testing.assert_array_equal(after.read(keys), np.full((8, 4), number, np.float32))
