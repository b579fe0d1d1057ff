"""Tensors as words: the stated error holds, nothing overflows, what does not fit is refused."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koinon.errors import PrivacyError
from koinon.privacy.secure_sum import Part, Quantiser, WordLayout

BITS = st.sampled_from([32, 64])
QUICK = settings(deadline=None, max_examples=80)


def encoded(quantiser: Quantiser, values: np.ndarray) -> np.ndarray:
    words = np.empty(values.size, dtype=f"<u{quantiser.bits // 8}")
    quantiser.encode(values, words)
    return words


@QUICK
@given(total=st.floats(1e-9, 1e12), parties=st.integers(1, 1000), bits=BITS, seed=st.integers(0, 999))
def test_a_sum_is_off_by_half_a_step_per_party_at_most(total: float, parties: int, bits: int, seed: int) -> None:
    quantiser = Quantiser(total, parties, bits)
    rng = np.random.default_rng(seed)
    values = np.clip(rng.uniform(-1, 1, (parties, 3)), -1, 1) * quantiser.limit
    words = np.zeros(3, dtype=f"<u{bits // 8}")
    for own in values:
        words += encoded(quantiser, own)
    for got, column in zip(quantiser.decode(words), values.T, strict=True):
        exact = sum(map(Fraction, column.tolist()))
        assert abs(Fraction(float(got)) - exact) <= Fraction(quantiser.error)
    assert quantiser.error == parties * quantiser.step / 2


@QUICK
@given(total=st.floats(1e-9, 1e12), parties=st.integers(1, 1000), bits=BITS, sign=st.sampled_from([-1, 1]))
def test_all_parties_at_their_limit_do_not_overflow(total: float, parties: int, bits: int, sign: int) -> None:
    quantiser = Quantiser(total, parties, bits)
    one = encoded(quantiser, np.array([sign * quantiser.limit]))
    got = float(quantiser.decode(one * np.array(parties, dtype=one.dtype))[0])
    assert abs(Fraction(got) - parties * Fraction(sign * quantiser.limit)) <= Fraction(quantiser.error)


@QUICK
@given(total=st.floats(1e-9, 1e12), parties=st.integers(1, 1000))
def test_the_error_is_what_the_words_allow(total: float, parties: int) -> None:
    assert Quantiser(total, parties, 32).step <= 2 * total / (2**31 - parties / 2 - 2)
    assert Quantiser(total, parties, 64).step <= 2 * total / (2**52 - parties / 2 - 2)


@given(values=st.lists(st.integers(-(2**27), 2**27), min_size=1, max_size=5), bits=BITS)
def test_whole_numbers_are_exact(values: list[int], bits: int) -> None:
    quantiser = Quantiser(2.0**30, 8, bits, whole=True)
    got = quantiser.decode(encoded(quantiser, np.array(values)))
    assert quantiser.error == 0
    assert got.dtype == np.int64
    assert got.tolist() == values


def test_rounding_is_to_the_nearest_and_the_same_every_time() -> None:
    quantiser = Quantiser(2.0**20, 1)
    values = np.array([0.4, 0.6, -0.4, -0.6]) * quantiser.step
    assert (quantiser.decode(encoded(quantiser, values)) / quantiser.step).tolist() == [0, 1, 0, -1]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1.01, -1.01])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_value_beyond_the_limit_is_refused_wherever_it_stands(value: float, dtype: str) -> None:
    values = np.zeros(150_000, dtype=dtype)
    values[149_000] = value
    with pytest.raises(PrivacyError, match="K624"):
        encoded(Quantiser(4.0, 4), values)


@pytest.mark.parametrize(
    "setting",
    [
        {"total": 0.0, "parties": 3},
        {"total": -1.0, "parties": 3},
        {"total": np.inf, "parties": 3},
        {"total": np.nan, "parties": 3},
        {"total": 1.0, "parties": 0},
        {"total": 1.0, "parties": 2**32},
        {"total": 2.0**31, "parties": 3, "whole": True},
    ],
)
def test_a_sum_that_the_ring_cannot_hold_is_refused(setting: dict[str, float]) -> None:
    with pytest.raises(PrivacyError, match="K623"):
        Quantiser(**setting)


def test_other_rings_are_refused() -> None:
    with pytest.raises(PrivacyError, match="K622"):
        Quantiser(1.0, 3, bits=16)


PARTS = (Part("a", (2, 3), "float32", 8.0), Part("empty", (0, 4), "float64", 1.0), Part("n", (), "int32", 100))


def tensors() -> dict[str, np.ndarray]:
    return {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3) / 4,
        "empty": np.empty((0, 4)),
        "n": np.array(-7, dtype=np.int32),
    }


def test_tensors_come_back_in_their_shapes_with_the_people() -> None:
    layout = WordLayout(PARTS, parties=4)
    words = layout.pack(tensors(), n_users=11)
    got, people = layout.unpack(words)
    assert (len(words), words.dtype.name, layout.count, people) == (8, "uint32", 8, 11)
    assert {name: array.shape for name, array in got.items()} == {"a": (2, 3), "empty": (0, 4), "n": ()}
    assert got["n"] == -7
    assert np.abs(got["a"] - tensors()["a"]).max() <= layout.quantisers["a"].step / 2


@pytest.mark.parametrize(
    "change",
    [
        {"b": np.zeros(1)},
        {"a": np.zeros((3, 2), dtype=np.float32)},
        {"a": np.zeros((2, 3))},
    ],
)
def test_other_tensors_than_declared_are_refused(change: dict[str, np.ndarray]) -> None:
    with pytest.raises(PrivacyError, match="K625"):
        WordLayout(PARTS, parties=4).pack(tensors() | change, n_users=1)


def test_a_missing_tensor_is_refused() -> None:
    with pytest.raises(PrivacyError, match="K625"):
        WordLayout(PARTS, parties=4).pack({"a": tensors()["a"]}, n_users=1)


@pytest.mark.parametrize("parts", [(PARTS[0], PARTS[0]), (Part("t", (1,), "bool", 1.0),)])
def test_a_layout_that_makes_no_sense_is_refused(parts: tuple[Part, ...]) -> None:
    with pytest.raises(PrivacyError, match="K625"):
        WordLayout(parts, parties=4)


def test_more_people_than_a_word_counts_are_refused() -> None:
    with pytest.raises(PrivacyError, match="K624"):
        WordLayout(PARTS, parties=4).pack(tensors(), n_users=2**30)
