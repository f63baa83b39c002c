import numpy as np
import pytest
from PIL import Image

from tests.conftest import scene
from tudsr.data.crops import draw_crop


@pytest.fixture
def photo():
    return Image.fromarray(scene(0, 160))


def drawn(photo, seed, crop_px=64):
    return draw_crop(photo, crop_px, np.random.default_rng(seed))


def test_crops_are_of_the_asked_size_and_in_range(photo):
    for seed in range(40):
        crop = drawn(photo, seed)
        assert crop.shape == (64, 64, 3)
        assert crop.dtype == np.float32
        assert crop.min() >= 0
        assert crop.max() <= 1
        assert crop.flags.c_contiguous


def test_a_crop_is_a_function_of_its_draws(photo):
    """In a picture so large that even the widest window, four crops, can lie anywhere."""
    assert np.array_equal(drawn(photo, 3), drawn(photo, 3))
    large = Image.fromarray(scene(0, 320))
    assert len({drawn(large, seed).tobytes() for seed in range(50)}) == 50


def test_a_third_has_other_colours_along_a_curve_and_structure_stays(photo):
    """A picture of one level shows the curve itself: level ** gamma, gamma in 0.75..1.33."""
    flat = Image.new("RGB", (80, 80), (51, 51, 51))
    levels = np.array([drawn(flat, seed).mean() for seed in range(600)])
    bent = ~np.isclose(levels, 0.2, atol=1e-4)
    assert bent.mean() == pytest.approx(1 / 3, abs=0.06)
    gammas = np.log(levels) / np.log(0.2)
    assert 0.75 <= gammas.min() < 0.8
    assert 1.28 < gammas.max() <= 1.33


def test_the_curve_by_table_is_the_curve_of_every_pixel(photo):
    """The table must not change what a sample was before there was one."""
    pixels = np.asarray(photo, np.float32) / np.float32(255)
    for seed in range(60):
        found, rng = drawn(photo, seed, 160), np.random.default_rng(seed)
        rng.choice(8), rng.integers(1), rng.integers(1)
        expected = pixels[:, ::-1] if rng.random() < 0.5 else pixels
        expected = np.rot90(expected, int(rng.integers(4)))
        if rng.random() < 1 / 3:
            gamma = float(rng.uniform(0.75, 1.33))
            expected = np.power(expected[:, :, rng.permutation(3)], gamma, dtype=np.float32)
        np.testing.assert_allclose(found, expected, rtol=3e-7)
