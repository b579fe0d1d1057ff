"""What a secure sum promises: the total within its stated error, and nothing else."""

from __future__ import annotations

import re
import tracemalloc
from contextlib import suppress
from itertools import combinations_with_replacement, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from koinon.errors import FederationError, PrivacyError
from koinon.privacy.secure_sum import Part, Rules, Session, WordLayout
from koinon.privacy.secure_sum.masks import derive, private_key, public_bytes
from koinon.privacy.secure_sum.messages import Claim, Keys, Unmask
from koinon.privacy.secure_sum.rules import Graph
from koinon.privacy.secure_sum.sharing import combine

STAYS = "stays"
COURSES = ("keys", "shares", "masked", "unmask", STAYS)
QUICK = settings(deadline=None, max_examples=12)


def everyone_may_sum(courses: tuple[str, ...]) -> bool:
    """Say by counting alone whether a small federation (all are neighbours) may release a total."""
    rank = {course: place for place, course in enumerate(COURSES)}
    had_keys, shared, answered, unmasked = (sum(rank[c] > step for c in courses) for step in range(4))
    quorum = max(-(-2 * had_keys // 3), had_keys // 2 + 1)
    return had_keys >= 3 and shared >= max(3, quorum) and answered >= max(3, quorum) and unmasked >= quorum


def check(carried, words, courses: tuple[str, ...]) -> bool:
    sum_ = carried(len(courses), dict(zip(words, courses, strict=True)))
    if not everyone_may_sum(courses):
        with pytest.raises(FederationError) as raised:
            sum_.total(words)
        assert raised.value.code in {"K740", "K741"}
        return False
    total = sum_.total(words)
    contributors = [name for name, course in zip(words, courses, strict=True) if course in {"unmask", STAYS}]
    assert list(sum_.server.contributors) == contributors
    assert np.array_equal(total, sum(words[name] for name in contributors))
    return True


@pytest.mark.parametrize("n", [3, 4])
def test_the_total_is_the_plain_sum_under_every_dropout_pattern_or_there_is_none(carried, words_of, n: int) -> None:
    released = [check(carried, words_of(n), courses) for courses in product(COURSES, repeat=n)]
    # three: all contribute, one may miss the unmasking. four: besides, one in four may be lost after any step
    assert sum(released) == {3: 1 + 3, 4: 1 + 4 + 4 + 4 + 4 * (1 + 3)}[n]


def test_five_partners_drop_out_in_every_combination(carried, words_of) -> None:
    rng = np.random.default_rng(5)
    for courses in combinations_with_replacement(COURSES, 5):
        check(carried, words_of(5), tuple(rng.permutation(courses).tolist()))


@pytest.mark.slow
def test_five_partners_drop_out_in_every_pattern(carried, words_of) -> None:
    released = [check(carried, words_of(5), courses) for courses in product(COURSES, repeat=5)]
    assert sum(released) == sum(everyone_may_sum(courses) for courses in product(COURSES, repeat=5)) > 0


@QUICK
@given(
    courses=st.lists(st.sampled_from((*COURSES, *[STAYS] * 15)), min_size=16, max_size=16),
    seed=st.integers(0, 99),
)
def test_on_a_sparse_graph_a_total_is_right_and_missing_only_where_a_neighbourhood_is_too_thin(
    carried, words_of, courses: list[str], seed: int
) -> None:
    rules, words = Rules(density=2, quorum=0.55), words_of(16, seed=seed)
    sum_ = carried(16, dict(zip(words, courses, strict=True)), rules=rules, session=Session("run", seed, "ab" * 32))
    keyed, shared, answered, unmasked = (set(sum_.there(step)) for step in ("keys", "shares", "masked", "unmask"))
    graph = Graph(sum_.session, len(keyed), rules.degree(len(keyed))) if len(keyed) >= 3 else None

    def around(name: str, there: set[str]) -> set[str]:
        return {sorted(keyed)[holder] for holder in graph.holders(sorted(keyed).index(name))} & there

    def thick(owners: set[str], there: set[str]) -> bool:
        return min(len(there), *(len(around(name, there)) for name in owners)) >= rules.needed(len(keyed))

    masked_with = {name for name in shared if around(name, answered)} if graph else set()
    if graph and thick(shared, shared) and thick(masked_with, answered) and thick(masked_with, unmasked):
        assert np.array_equal(sum_.total(words), sum(words[name] for name in answered))
    else:
        with pytest.raises(FederationError, match=r"K740|K741"):
            sum_.total(words)


@QUICK
@given(
    n=st.integers(3, 6),
    bits=st.sampled_from([32, 64]),
    shape=st.lists(st.integers(0, 4), max_size=3),
    bound=st.floats(1e-6, 1e6),
    seed=st.integers(0, 999),
)
def test_tensors_of_any_shape_are_summed_within_the_stated_error(carried, n, bits, shape, bound, seed) -> None:
    rng = np.random.default_rng(seed)
    parts = (
        Part("update", tuple(shape), "float32", bound),
        Part("statistics", (7,), "float64", 1.0),
        Part("counts", (3, 2), "int64", 10_000 * n),
    )
    layout = WordLayout(parts, parties=n, bits=bits)
    sum_ = carried(n)
    limit = layout.quantisers["update"].limit
    own = {
        name: {
            "update": np.clip(rng.uniform(-limit, limit, shape), -limit * 0.999, limit * 0.999).astype(np.float32),
            "statistics": rng.uniform(-1 / n, 1 / n, 7),
            "counts": rng.integers(-10_000, 10_001, (3, 2)),
        }
        for name in sum_.names
    }
    words = {name: layout.pack(tensors, n_users=seed + 1) for name, tensors in own.items()}
    sum_.keys()
    sum_.shares(layout.count, bits)
    sum_.mask(words)
    got, people = layout.unpack(sum_.unmask())
    assert people == n * (seed + 1)
    for part in parts:
        plain = np.sum([tensors[part.name].astype(np.float64) for tensors in own.values()], axis=0)
        rounding = np.abs(plain) * 1e-15 * n
        assert got[part.name].shape == part.shape
        assert np.all(np.abs(got[part.name] - plain) <= layout.quantisers[part.name].error + rounding)


def test_a_partner_looks_uniform_to_the_server_whatever_it_sends(carried) -> None:
    for value in (0, 7, 0xFFFFFFFF):
        words = {f"partner{i:02}": np.full(100_000, value, dtype=np.uint32) for i in range(3)}
        sum_ = carried(3).until("unmask", words)
        for said in sum_.masked.values():
            assert chisquare(np.bincount(np.frombuffer(said[80:], dtype=np.uint8), minlength=256)).pvalue > 1e-7


def test_what_a_failed_sum_leaves_at_the_server_looks_uniform(carried) -> None:
    words = {f"partner{i:02}": np.zeros(100_000, dtype=np.uint32) for i in range(4)}
    sum_ = carried(4, {"partner00": "masked", "partner01": "masked"})
    with pytest.raises(FederationError, match="K740"):
        sum_.total(words)
    with pytest.raises(FederationError, match="K744"):
        sum_.server.total()
    assert chisquare(np.bincount(sum_.server._sum.view(np.uint8), minlength=256)).pvalue > 1e-7


def test_the_same_words_never_look_the_same_twice(carried, words_of) -> None:
    words = words_of(3)
    first, second = (carried(3).until("unmask", words).masked["partner00"] for _ in range(2))
    assert np.mean(np.frombuffer(first[80:], np.uint8) == np.frombuffer(second[80:], np.uint8)) < 0.3


def test_no_length_depends_on_what_is_summed(carried) -> None:
    def lengths(value: int) -> list[int]:
        words = {f"partner{i:02}": np.full(50, value, dtype=np.uint32) for i in range(4)}
        sum_ = carried(4).until("unmask", words)
        return [len(said) for said in (*sum_.masked.values(), *sum_.told.values(), *sum_.states.values())]

    assert lengths(0) == lengths(0xFFFFFFFF)


def test_the_server_holds_one_sum_however_many_answer(carried) -> None:
    count = 250_000
    words = {f"partner{i:02}": np.full(count, i, dtype=np.uint32) for i in range(8)}
    sum_ = carried(8)
    sum_.keys()
    sum_.shares(count)
    said = {name: sum_.partner(name).mask(sum_.told[name], words[name]) for name in sum_.names}
    tracemalloc.start()
    for name, message in said.items():
        sum_.server.take_masked(name, message)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 100_000  # a tenth of one answer


def test_the_words_of_a_partner_are_left_as_they_were(carried, words_of) -> None:
    words = words_of(3)
    carried(3).total(words)
    assert all(np.array_equal(own, words_of(3)[name]) for name, own in words.items())


@pytest.mark.parametrize("n", [3, 4, 5, 6])
def test_a_server_that_tells_different_stories_gets_never_both_seeds_of_a_partner(carried, words_of, n: int) -> None:
    sum_ = carried(n).until("unmask", words_of(n))
    victim, *others = sum_.names
    keys: Keys = sum_.server._keys[victim]
    digest, threshold = sum_.session.digest, sum_.rules.threshold(n)
    for stories in product(["alive", "dropped"], repeat=len(others)):
        got: dict[str, list[bytes]] = {"alive": [], "dropped": []}
        for name, story in zip(sum_.names, ("alive", *stories), strict=True):
            alive = tuple(other for other in sum_.names if other != victim or story == "alive")
            claim = Claim(session=digest, receiver=name, alive=alive, dropped=(victim,) if story == "dropped" else ())
            with suppress(PrivacyError):  # too few are called alive
                answer = Unmask.read(sum_.partner(name).unmask(claim.to_bytes()), sum_.session)
                got[story].append(getattr(answer, story)[victim])
        own, mask = (combine(got[story][:threshold]) if got[story] else b"" for story in ("alive", "dropped"))
        has_own = derive(own, "commitment", digest, victim) == keys.commitment
        has_mask = public_bytes(private_key(mask, digest)) == keys.mask
        assert has_own == (len(got["alive"]) >= threshold)
        assert not (has_own and has_mask)


@pytest.mark.parametrize(("n", "rules"), [(5, Rules()), (40, Rules(density=3))])
def test_shares_below_the_threshold_give_nothing(carried, words_of, n: int, rules: Rules) -> None:
    sum_ = carried(n, rules=rules).until("unmask", words_of(n))
    name = sum_.names[0]
    holders, threshold = sum_.server._holders[name], rules.threshold(n)
    answers = {h: Unmask.read(sum_.partner(h).unmask(sum_.told[h]), sum_.session).alive[name] for h in holders}
    shares = list(answers.values())
    commitment = sum_.server._keys[name].commitment
    assert derive(combine(shares[:threshold]), "commitment", sum_.session.digest, name) == commitment
    assert derive(combine(shares[: threshold - 1]), "commitment", sum_.session.digest, name) != commitment


def test_the_guides_example_runs() -> None:
    guide = (Path(__file__).parents[4] / "docs" / "secure-sum.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", guide, re.S)
    names: dict[str, object] = {}
    exec(example, names)  # written by us
    assert names["users"] == 300
    assert np.abs(names["totals"]["counts"] - [4.5, 6, 3]).max() <= names["layout"].quantisers["counts"].error
