"""The noise is what the accounting believes it to be, and nobody's to repeat unless a test says so."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from koinon.errors import PrivacyError
from koinon.privacy.budget import NoiseSource, discrete, gaussian, grid_of, scales
from koinon.privacy.secure_sum.agreed import layout
from koinon.recommenders.protocol import TensorSpec


def test_normal_noise_is_normal():
    drawn = NoiseSource(7).normal(200_001)
    assert len(drawn) == 200_001
    assert stats.kstest(drawn, "norm").pvalue > 1e-4
    assert abs(np.corrcoef(drawn[:100_000], drawn[100_000:200_000])[0, 1]) < 0.02


@pytest.mark.parametrize("scale", [0.7, 3.2, 40.5])
def test_discrete_noise_is_the_discrete_gaussian(scale):
    drawn = NoiseSource(7).discrete_normal(200_000, scale)
    values = np.arange(-int(5 * scale) - 2, int(5 * scale) + 3)
    chance = np.exp(-(values**2) / (2 * scale**2))
    expected = 200_000 * chance / chance.sum()
    common = expected > 20
    observed = np.array([(drawn == value).sum() for value in values[common]])
    assert stats.chisquare(observed, expected[common] * observed.sum() / expected[common].sum()).pvalue > 1e-4


def test_a_seed_repeats_the_noise_of_one_purpose_and_no_seed_does_not():
    assert np.array_equal(NoiseSource(1, "a").normal(5), NoiseSource(1, "a").normal(5))
    assert not np.array_equal(NoiseSource(1, "a").normal(5), NoiseSource(1, "b").normal(5))
    assert not np.array_equal(NoiseSource(1, "a").normal(5), NoiseSource(2, "a").normal(5))
    assert not np.array_equal(NoiseSource().normal(5), NoiseSource().normal(5))


@pytest.mark.parametrize("scale", [0.3, 17.0])
def test_a_partners_own_noise_has_the_stated_size_and_lies_on_a_grid(scale):
    clear = np.linspace(-50, 50, 100_000).reshape(100, 1000)
    noised = gaussian(clear, scale, NoiseSource(3))
    assert (noised - clear).std() == pytest.approx(scale, rel=0.01)
    grid = 2.0 ** np.floor(np.log2(scale / 64))
    assert np.array_equal(noised / grid, np.rint(noised / grid))


@pytest.mark.parametrize("survivors", [2, 3, 4])
def test_the_shares_of_the_survivors_make_up_the_whole_noise(survivors):
    size, scale, bound, shares = 50_000, 12.0, 3.0, 2
    total = sum(discrete(np.zeros(size), scale, bound, shares, NoiseSource(k)) for k in range(survivors))
    raised = 1 + np.sqrt(size) * grid_of(size, scale, bound, shares) / bound
    assert 1 < raised < 1 + 1 / 32
    assert total.std() == pytest.approx(scale * raised * np.sqrt(survivors / shares), rel=0.02)
    assert total.std() >= scale * 0.98


def test_distributed_noise_goes_through_a_secure_sum_unrounded():
    rng = np.random.default_rng(0)
    spec = TensorSpec("counts", (4000,), "float32", "sum", 3.0)
    sent = [discrete(rng.uniform(0, 500, 4000), 40.0, spec.clip, 2, NoiseSource(k)) for k in range(3)]
    travelling = [noised.astype(np.float32) for noised in sent]
    assert all(np.array_equal(a, b) for a, b in zip(sent, travelling, strict=True))
    agreed = layout([spec], 3)
    words = sum(agreed.pack({"counts": noised}, 1) for noised in travelling)
    assert np.array_equal(agreed.unpack(words)[0]["counts"], sum(sent))


def test_what_would_be_rounded_on_the_way_is_refused():
    with pytest.raises(PrivacyError, match="K663"):
        grid_of(10**9, 1.0, 1.0, 2)
    with pytest.raises(PrivacyError, match="K663"):
        discrete(np.full(4, 1e9), 1.0, 1.0, 2, NoiseSource(0))


@given(
    bounds=st.lists(st.floats(0.01, 100), min_size=1, max_size=4),
    shares=st.lists(st.floats(0.01, 1), min_size=4, max_size=4),
    multiplier=st.floats(0.1, 100),
)
def test_tensors_together_have_the_multiplier_of_their_release(bounds, shares, multiplier):
    named = {str(k): bound for k, bound in enumerate(bounds)}
    found = scales(named, dict(zip(named, shares, strict=False)), multiplier)
    joint = sum((named[name] / found[name]) ** 2 for name in named) ** -0.5
    assert multiplier <= joint <= multiplier * (1 + 1e-5)
