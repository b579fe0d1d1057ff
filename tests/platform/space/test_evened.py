"""A space seen from one catalogue."""

from __future__ import annotations

import numpy as np
import pytest

from koinon.recommenders.conventional import SemanticEASE, SemanticEaseConfig, TextSimilarity, TextSimilarityConfig
from koinon.space import CachedSpace, EvenedSpace
from koinon.space.evened import principal_map


class Listed:
    """Vectors by number; what is not asked for is not encoded."""

    uri, fingerprint = "listed", "0" * 64

    def __init__(self, vectors):
        self.vectors, self.dimension = vectors / np.linalg.norm(vectors, axis=1, keepdims=True), vectors.shape[1]

    def encode(self, texts, progress=None):
        return self.vectors[[int(text) for text in texts]].astype(np.float32)


@pytest.fixture
def listed():
    rng = np.random.default_rng(0)
    return Listed(rng.normal(size=(60, 5)) * [9.0, 3.0, 2.0, 1.0, 0.5] + [20.0, 0, 0, 0, 0])


def test_axes_come_to_one_length_by_evenness(listed):
    vectors = listed.encode(range(60))
    for evenness in (0.0, 0.5, 1.0):
        turned, mean = principal_map(vectors, evenness)
        spread = np.cov((vectors - mean) @ turned.T, rowvar=False)
        assert np.abs(spread - np.diag(np.diag(spread))).max() < 1e-5
        found = np.diag(spread) / spread[0, 0]
        variance = np.sort(np.linalg.eigvalsh(np.cov(vectors, rowvar=False)))[::-1]
        np.testing.assert_allclose(found, (variance / variance[0]) ** (1 - evenness), rtol=2e-3)
    padded, _ = principal_map(vectors, 1.0, 7)
    assert not padded[5:].any()
    assert padded.shape == (7, 5)


def test_without_stretching_cosines_are_those_about_the_mean(listed):
    texts = [str(n) for n in range(60)]
    vectors = EvenedSpace(listed, texts, 0.0).encode(texts)
    centred = listed.encode(texts) - listed.encode(texts).mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors @ vectors.T, centred @ centred.T, atol=1e-5)


def test_fingerprints_tell_space_catalogue_and_evenness_apart(listed):
    texts = ["1", "2", "3", "4"]
    seen = {EvenedSpace(listed, *one).fingerprint for one in ((texts, 0.5), (texts, 0.25), (texts[:3], 0.5))}
    assert len(seen) == 3
    assert EvenedSpace(listed, texts, 0.5).fingerprint in seen


def test_what_people_type_is_written_to_no_cache(listed, tmp_path, shop):
    from koinon.recommenders import Request

    class Hashed:
        uri, fingerprint, dimension = "hashed", "1" * 64, 6

        def encode(self, texts, progress=None):
            rows = np.stack([np.random.default_rng(list(text.encode())).normal(size=6) for text in texts])
            return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    space = CachedSpace(Hashed(), tmp_path / "vectors")
    model = SemanticEASE(SemanticEaseConfig(evenness=0.5)).fit(shop.train, space, rng=np.random.default_rng(0))
    before = space.encoded_texts
    kept = {path: path.read_bytes() for path in (tmp_path / "vectors").rglob("*") if path.is_file()}
    model.score([Request(history=np.array([0], dtype=np.int32), query="a secret wish")])
    assert {path: path.read_bytes() for path in (tmp_path / "vectors").rglob("*") if path.is_file()} == kept
    assert space.encoded_texts == before + 1
    plain = TextSimilarity().fit(shop.train, space, rng=np.random.default_rng(0))
    evened = TextSimilarity(TextSimilarityConfig(evenness=0.5)).fit(shop.train, space, rng=np.random.default_rng(0))
    assert not np.allclose(plain.vectors, evened.vectors)


def test_learners_that_cannot_even_a_space_say_so():
    from koinon.recommenders.federated.adapters import AdaptersConfig
    from koinon.recommenders.federated.lora import FederatedLoraConfig

    for kind in (AdaptersConfig, FederatedLoraConfig):
        with pytest.raises(ValueError, match="leave evenness out"):
            kind(evenness=0.5)
