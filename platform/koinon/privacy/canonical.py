"""Canonical JSON: one sequence of bytes for one value, so that it can be hashed and signed.

Keys are sorted by code point, nothing is indented, text is UTF-8 and not escaped beyond what JSON demands, numbers are
written as Python writes them (the shortest form that reads back as the same float). ``NaN`` and infinities have none.
"""

from __future__ import annotations

import json
from typing import Any

__all__ = ["canonical", "parsed"]


def canonical(value: Any) -> bytes:
    """Return the one form of a value made of ``dict[str, ...]``, lists, texts, numbers, ``bool`` and ``None``.

    Raises
    ------
    ValueError
        A number is not finite, or a text holds half of a surrogate pair.
    TypeError
        Something else than the above.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def parsed(content: bytes) -> Any:
    """Read a value and hold its form against the canonical one.

    Raises
    ------
    ValueError
        It is no JSON, or not in canonical form (other order, white space, a key given twice, another form of a number).
    """
    try:
        value = json.loads(content.decode("utf-8"))
        same = canonical(value) == content
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not same:
        raise ValueError("not in canonical form")
    return value
