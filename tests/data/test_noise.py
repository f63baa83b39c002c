import numpy as np
import pytest
from scipy import stats

from tudsr.data.noise import noise_for
from tudsr.data.recipe import Noise


def gaussian(grey=False, strength=10.0, seed=0):
    return noise_for(np.zeros((300, 400, 3), np.float32), Noise(True, grey, strength, seed))


def shot(image, grey=False, strength=1.0, seed=0):
    return noise_for(image.astype(np.float32), Noise(False, grey, strength, seed))


@pytest.fixture
def ramp():
    """Every grey level in a row of its own, so that white is 256 photons."""
    return np.repeat(np.arange(256.0)[:, None, None], 2000, axis=1).repeat(3, axis=2)


def test_gaussian_noise_is_normal_with_the_drawn_deviation():
    values = gaussian().ravel() / 10
    assert stats.kstest(values, "norm").pvalue > 0.001
    assert values.std() == pytest.approx(1, rel=0.005)
    assert stats.kurtosis(values) == pytest.approx(0, abs=0.05)
    assert abs(np.corrcoef(values[1:], values[:-1])[0, 1]) < 0.01


@pytest.mark.parametrize("kind", ["gaussian", "shot"])
def test_grey_noise_is_the_same_in_each_channel_and_colour_noise_is_not(kind):
    flat = np.full((300, 400, 3), 128.0)
    for grey in (True, False):
        noise = gaussian(grey) if kind == "gaussian" else shot(flat, grey)
        related = np.corrcoef(noise[..., 0].ravel(), noise[..., 2].ravel())[0, 1]
        assert related == pytest.approx(1.0 if grey else 0.0, abs=0.02)


def test_shot_noise_is_poissons_at_every_level(ramp):
    """A count's mean and variance are its photons; dark ones have SciPy's own distribution."""
    noise = shot(ramp)
    photons = np.arange(256) / 255 * 256
    counts = (noise + ramp) / 255 * 256
    np.testing.assert_allclose(counts, np.rint(counts), atol=1e-2)
    np.testing.assert_allclose(noise.mean(axis=(1, 2)), 0, atol=0.75)
    np.testing.assert_allclose(counts.var(axis=(1, 2))[8:], photons[8:], rtol=0.12)
    for level in (1, 3, 10):
        seen = np.bincount(np.rint(counts[level]).astype(int).ravel(), minlength=40)[:40] / 6000
        expected = stats.poisson.pmf(np.arange(40), photons[level])
        np.testing.assert_allclose(seen, expected, atol=0.025)


def test_shot_noise_grows_where_a_picture_has_few_levels_and_with_its_strength():
    two = np.zeros((200, 200, 3))
    two[:100] = 255
    assert shot(two)[:100].std() == pytest.approx(255 / np.sqrt(2), rel=0.03)
    assert shot(two, strength=0.5)[:100].std() == pytest.approx(127.5 / np.sqrt(2), rel=0.03)
    assert np.all(shot(two)[100:] == 0)


def test_a_seed_is_its_noise_and_another_seed_another():
    assert np.array_equal(gaussian(seed=4), gaussian(seed=4))
    assert abs(np.corrcoef(gaussian(seed=4).ravel(), gaussian(seed=5).ravel())[0, 1]) < 0.01
