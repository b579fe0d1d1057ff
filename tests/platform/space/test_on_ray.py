"""Encoding on a local Ray cluster equals encoding in the process, and goes on where it was stopped."""

import gc
import os
import warnings

import numpy as np
import pytest

from koinon.errors import SpaceError
from koinon.space import open_space
from koinon.space.on_ray import encode_with_ray

ray = pytest.importorskip("ray")


@pytest.fixture(scope="module")
def cluster():
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray.shutdown()
        gc.collect()  # Ray leaves its processes to the collector, which warns of them


@pytest.mark.usefixtures("cluster")
class TestOnALocalCluster:
    def test_vectors_equal_those_of_this_process(self, encoder, tmp_path, many_titles):
        seen = []
        space = encode_with_ray(
            many_titles,
            cache_dir=tmp_path / "ray",
            shard_texts=50,
            progress=lambda done, total: seen.append((done, total)),
        )
        total = len(set(many_titles))
        assert len(seen) == -(-total // 50)
        assert seen[-1] == (total, total)
        expected = encoder.encode(many_titles)
        np.testing.assert_allclose(space.encode(many_titles), expected, atol=1e-5)
        assert space.encoded_texts == 0

    def test_a_stopped_run_goes_on_where_it_was(self, tmp_path, many_titles):
        def stop(done, total):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            encode_with_ray(many_titles, cache_dir=tmp_path, shard_texts=100, workers=1, progress=stop)
        left = open_space(cache_dir=tmp_path).missing(many_titles)
        assert len(left) == len(set(many_titles)) - 100
        totals = []
        encode_with_ray(many_titles, cache_dir=tmp_path, workers=1, progress=lambda done, total: totals.append(total))
        assert totals == [len(left)]

    def test_a_worker_that_fails_names_the_cause(self, tmp_path):
        with pytest.raises(SpaceError, match="K302"):
            encode_with_ray(["a"], "hf:/no/such/folder", tmp_path)


def test_a_cached_catalogue_needs_no_ray(tmp_path, monkeypatch):
    open_space(cache_dir=tmp_path).encode(["Emma"])
    monkeypatch.setattr("koinon.space.on_ray._cluster", None)
    assert encode_with_ray(["Emma", "Emma"], cache_dir=tmp_path).encoded_texts == 0


def test_without_ray_the_extra_is_named(tmp_path, monkeypatch):
    from importlib.util import find_spec

    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *rest: None if name == "ray" else find_spec(name, *rest)
    )
    with pytest.raises(SpaceError, match=r"K301.*koinon\[simulation\]"):
        encode_with_ray(["Emma"], cache_dir=tmp_path)
