"""One value, one sequence of bytes."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koinon.privacy.canonical import canonical, parsed

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4))


@given(VALUES)
def test_what_is_written_reads_back_as_the_same_value_and_the_same_bytes(value: object) -> None:
    content = canonical(value)
    assert parsed(content) == value
    assert canonical(parsed(content)) == content


@given(st.dictionaries(TEXT, PLAIN, max_size=8), st.randoms())
def test_the_order_in_which_keys_were_put_in_does_not_matter(value: dict[str, object], random: object) -> None:
    items = list(value.items())
    random.shuffle(items)  # type: ignore[attr-defined]
    assert canonical(dict(items)) == canonical(value)


@given(VALUES, st.sampled_from([" ", "\n"]))
def test_white_space_is_refused(value: object, space: str) -> None:
    for content in (canonical(value) + space.encode(), space.encode() + canonical(value)):
        with pytest.raises(ValueError, match="canonical"):
            parsed(content)


@pytest.mark.parametrize(
    "content",
    [
        b'{"b":1,"a":2}',
        b'{"a":1,"a":1}',
        b'{"a": 1}',
        b"1.50",
        b"1E2",
        b"-0",
        b'"\\u00e4"',
        b'"\\/"',
        b"NaN",
        b"\xff",
        b'"\\ud800"',
        b"",
        b"[" * 100_000,
    ],
)
def test_every_other_form_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        parsed(content)


@pytest.mark.parametrize("value", [math.nan, math.inf, {"a": [-math.inf]}, "\ud800"])
def test_a_value_without_a_form_is_refused(value: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        canonical(value)


def test_bytes_are_those_of_the_standard_form() -> None:
    assert canonical({"b": [1, 0.5, True, None], "a": "ä\n€"}) == '{"a":"ä\\n€","b":[1,0.5,true,null]}'.encode()
    assert json.loads(canonical({"z": 1e300})) == {"z": 1e300}
