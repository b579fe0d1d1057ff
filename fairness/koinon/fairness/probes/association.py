"""Whom the semantic space places near what: the word and sentence embedding association tests."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from koinon.fairness.probes.findings import Association
from koinon.fairness.probes.plan import AssociationPlan
from koinon.fairness.probes.terms import FRAME, TESTS
from koinon.fairness.verdicts import adjust
from koinon.space import Space

__all__ = ["associate", "association_test"]

Vectors = NDArray[np.floating]
Form = Literal["words", "sentences"]

_EXACT = 13_000
"""Divisions that are all tried: two times eight words have 12,870."""


def association_test(
    first: Vectors, second: Vectors, one: Vectors, other: Vectors, *, draws: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Effect size and p-value of Caliskan, Bryson and Narayanan (2017).

    Parameters
    ----------
    first, second
        ``float[n, d]`` unit vectors of two kinds of people, equally many.
    one, other
        ``float[m, d]`` unit vectors of two kinds of things.
    draws, seed
        Divisions drawn where there are more than can all be tried.

    Returns
    -------
    effect
        ``(mean_x s − mean_y s) / std s`` with ``s(w) = mean cos(w, one) − mean cos(w, other)`` and the sample standard
        deviation over both kinds of people; -2 to 2, 0 where they do not differ at all.
    p
        Two-sided: share of equal divisions of the people's words whose means differ as much.
    """
    words = np.concatenate([first, second]).astype(np.float64)
    lean = (words @ one.T.astype(np.float64)).mean(axis=1) - (words @ other.T.astype(np.float64)).mean(axis=1)
    half = len(first)
    difference = lean[:half].mean() - lean[half:].mean()
    spread = lean.std(ddof=1)
    effect = float(difference / spread) if spread > 1e-12 else 0.0
    divisions, every = _divisions(len(words), half, draws, seed)
    sums = lean[divisions].sum(axis=1)
    means = sums / half - (lean.sum() - sums) / (len(words) - half)
    as_far = int((np.abs(means) >= abs(difference) - 1e-12).sum())
    return effect, as_far / len(divisions) if every else (as_far + 1) / (len(divisions) + 1)


def _divisions(words: int, half: int, draws: int, seed: int) -> tuple[NDArray[np.int64], bool]:
    """``int64[divisions, half]``: which words go into the first kind; and whether these are all divisions."""
    found = list(itertools.islice(itertools.combinations(range(words), half), _EXACT + 1))
    if len(found) <= _EXACT:
        return np.array(found, dtype=np.int64), True
    rng = np.random.default_rng(seed)
    return np.argsort(rng.random((draws, words)), axis=1)[:, :half], False


def associate(space: Space, plan: AssociationPlan, *, seed: int = 0) -> list[Association]:
    """Run every test of a plan, on bare words and in short sentences."""
    found: list[Association] = []
    for name in plan.tests:
        test = TESTS[name]
        for language in plan.languages:
            kinds = [words[language] for words in test.words]
            frames: dict[Form, str] = {"words": "{}", "sentences": FRAME[language]}
            for form, frame in frames.items():
                vectors = [space.encode([frame.format(word) for word in words]) for words in kinds]
                effect, p = association_test(*vectors, seed=seed)
                found.append(
                    Association(
                        test=name, language=language, form=form, first=test.first, second=test.second, one=test.one,
                        other=test.other, effect=effect, p=p, p_adjusted=p, terms=len(kinds[0]),
                    )
                )  # fmt: skip
    return _adjusted(found)


def _adjusted(found: Sequence[Association]) -> list[Association]:
    values = adjust([one.p for one in found], primary=False)
    return [one.model_copy(update={"p_adjusted": float(p)}) for one, p in zip(found, values, strict=True)]
