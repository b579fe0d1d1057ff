"""Masks and graph, held against other implementations and against their own statement of odds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from Crypto.Cipher import AES
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen

from koinon.errors import PrivacyError
from koinon.privacy.secure_sum import Rules, Session
from koinon.privacy.secure_sum.masks import add_masks, derive
from koinon.privacy.secure_sum.odds import odds
from koinon.privacy.secure_sum.rules import Graph


def mask_of(key: bytes, count: int, dtype: str = "<u4") -> np.ndarray:
    words = np.zeros(count, dtype=dtype)
    add_masks(words, [key])
    return words


@pytest.mark.parametrize("dtype", ["<u4", "<u8"])
@pytest.mark.parametrize("count", [1, 1000, 16_384, 40_001])
def test_a_mask_is_the_keystream_of_aes_256_in_counter_mode(dtype: str, count: int) -> None:
    key, mask = bytes(range(32)), mask_of(bytes(range(32)), count, dtype)
    other = AES.new(key, AES.MODE_CTR, nonce=b"", initial_value=0).encrypt(bytes(mask.nbytes))
    assert mask.tobytes() == other


def test_masks_added_and_taken_away_leave_the_words() -> None:
    words, keys = np.arange(50_000, dtype="<u4"), [bytes([n]) * 32 for n in range(4)]
    add_masks(words, keys[:2], keys[2:])
    assert not np.array_equal(words, np.arange(50_000))
    add_masks(words, keys[2:], keys[:2])
    assert np.array_equal(words, np.arange(50_000))


def test_flowers_generator_is_refused_it_gives_two_seeds_one_mask_and_ours_does_not() -> None:
    one = bytes(range(32))
    other = one[4:8] + one[:4] + one[8:]
    flowers = [pseudo_rand_gen(seed, 1 << 32, [(1000,)])[0] for seed in (one, other)]
    assert one != other
    assert np.array_equal(*flowers)  # so a seed of 256 bits is worth 32 there
    ours = [mask_of(derive(seed, "own mask", b"", "alpha"), 1000) for seed in (one, other)]
    assert np.mean(ours[0] == ours[1]) < 0.01


def test_every_bit_of_a_seed_and_every_word_of_the_context_makes_another_key() -> None:
    seed = bytes(16)
    flipped = [(1 << bit).to_bytes(16, "big") for bit in range(128)]
    keys = [derive(s, "own mask", b"s", "alpha") for s in (seed, *flipped)]
    keys += [
        derive(seed, *told)
        for told in (
            ("pair mask", b"s", "alpha"),
            ("own mask", b"t", "alpha"),
            ("own mask", b"s", "alphabet"),
            ("own mask", b"s", "alpha", "beta"),
            ("own mask", b"s", "beta", "alpha"),
        )
    ]
    assert len(set(keys)) == 129 + 5


def test_a_session_is_another_as_soon_as_run_round_policy_or_purpose_is() -> None:
    fields = [("a", "b"), (1, 2), ("p", "q"), ("x", "y")]
    assert len({Session(*told).digest for told in itertools.product(*fields)}) == 16


@pytest.mark.parametrize("n", [3, 16, 37, 64, 256])
def test_the_graph_is_mutual_even_and_whole(n: int) -> None:
    graph = Graph(Session("run", 1, "p"), n, Rules().degree(n))
    around = [graph.neighbours(index) for index in range(n)]
    assert {len(set(others)) for others in around} == {Rules().degree(n)}
    assert all(index in around[other] and other != index for index in range(n) for other in around[index])
    reached, edge = {0}, {0}
    while edge:
        edge = {other for index in edge for other in around[index]} - reached
        reached |= edge
    assert len(reached) == n


def test_the_graph_of_another_round_is_another() -> None:
    first, second = (Graph(Session("run", number, "p"), 64, 30) for number in (1, 2))
    assert sum(first.neighbours(i) != second.neighbours(i) for i in range(64)) > 60


def test_the_number_of_neighbours_grows_with_the_logarithm() -> None:
    degrees = [Rules().degree(n) for n in (64, 256, 1024, 4096)]
    assert degrees == [30, 40, 50, 60]


def test_the_odds_bound_what_happens() -> None:
    rules, n, share = Rules(density=3, quorum=0.6), 128, 0.15
    degree, threshold = rules.degree(n), rules.threshold(n)
    said = odds(rules, n, dropped=share, conspiring=share)
    graph = Graph(Session("run", 1, "p"), n, degree)
    holders = np.zeros((n, n), dtype=np.int64)
    for index in range(n):
        holders[index, list(graph.holders(index))] = 1
    rng = np.random.default_rng(0)
    lost = known = 0
    for _ in range(4000):
        bad = np.zeros(n, dtype=np.int64)
        bad[rng.choice(n, int(share * n), replace=False)] = 1
        among = holders @ bad
        lost += bool(np.any(degree + 1 - among < threshold))
        known += bool(np.any(among[bad == 0] >= threshold))
    assert said.no_total / 20 < lost / 4000 < said.no_total < 1
    assert known / 4000 <= said.known < said.tricked


def test_few_partners_all_mask_each_other_so_no_ring_can_be_cut() -> None:
    said = odds(Rules(), 16, dropped=0.1, conspiring=0.1)
    assert (said.no_total, said.known, said.split) == (0, 0, 0)


@pytest.mark.parametrize(
    "setting", [{"minimum": 2}, {"minimum": 0}, {"quorum": 0.5}, {"quorum": 1.1}, {"density": 1}, {"density": np.inf}]
)
def test_rules_that_would_not_protect_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(PrivacyError, match="K622"):
        Rules(**setting)


def test_a_secret_always_needs_more_than_half_of_its_holders() -> None:
    for n in range(3, 200):
        for rules in (Rules(), Rules(quorum=0.51), Rules(quorum=1)):
            assert 2 * rules.threshold(n) > rules.degree(n) + 1 >= rules.threshold(n)
            assert rules.needed(n) >= min(3, n)
