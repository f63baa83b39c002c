import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from tudsr.data.degrade import add_noise, degrade, jpeg, poisson_noise, sample_rng
from tudsr.data.presets import PRESETS
from tudsr.errors import DataError
from tudsr.images.resize import bicubic_resize

MILD = PRESETS["mild"].first


@pytest.fixture(scope="module")
def hr(scene):
    return scene(7, 128).astype(np.float32) / 255


def psnr(a, b):
    return -10 * np.log10(np.mean((a - b) ** 2))


def test_clean_is_the_antialiased_bicubic_reduction(hr):
    lr = degrade(hr, 4, "clean", np.random.default_rng(0))
    np.testing.assert_array_equal(lr, np.clip(bicubic_resize(hr, 32, 32), 0, 1))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_shape_type_and_range(hr, preset, scale):
    lr = degrade(hr, scale, preset, np.random.default_rng(1))
    assert lr.shape == (128 // scale, 128 // scale, 3)
    assert lr.dtype == np.float32
    assert lr.min() >= 0
    assert lr.max() <= 1


def test_a_crop_of_one_result_pixel_survives(hr):
    for index in range(30):
        assert degrade(hr[:8, :8], 8, "standard", sample_rng(0, "a", index)).shape == (1, 1, 3)


def test_the_same_sample_is_the_same_bytes_and_its_neighbour_is_not(hr):
    first, again, other = (degrade(hr, 4, "mild", sample_rng(0, "a", i)) for i in (5, 5, 6))
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()


def test_samples_do_not_depend_on_workers_or_order(hr):
    def make(index):
        return degrade(hr, 4, "standard", sample_rng(3, "train/a.png", index)).tobytes()

    alone = [make(index) for index in range(12)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(make, reversed(range(12))))[::-1]
    assert alone == together


def test_the_generator_is_the_same_in_another_process():
    code = "from tudsr.data.degrade import sample_rng; print(sample_rng(1, 'é', 2).integers(2**62))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert int(shown.stdout) == sample_rng(1, "é", 2).integers(2**62)


def test_arguments_of_the_generator_cannot_be_confused():
    draws = {sample_rng(*key).integers(2**62) for key in ((1, "1", 1), (11, "", 1), (1, "", 11))}
    assert len(draws) == 3


def test_presets_are_ordered_by_damage(hr):
    clean = degrade(hr, 4, "clean", np.random.default_rng(0))
    damage = {
        preset: np.mean(
            [psnr(degrade(hr, 4, preset, sample_rng(0, "a", i)), clean) for i in range(40)]
        )
        for preset in ("mild", "standard")
    }
    assert damage["standard"] + 1 < damage["mild"] < 60


def test_gaussian_noise_has_the_drawn_strength_and_grey_is_grey():
    flat = np.full((200, 200, 3), 0.5, np.float32)
    always = replace(MILD, noise=(10, 10), gaussian_prob=1.0, grey_prob=1.0)
    grey = add_noise(flat, always, np.random.default_rng(0)) - flat
    assert grey.std() * 255 == pytest.approx(10, rel=0.03)
    assert np.array_equal(grey[..., 0], grey[..., 2])
    colour = add_noise(flat, replace(always, grey_prob=0.0), np.random.default_rng(0)) - flat
    assert abs(np.corrcoef(colour[..., 0].ravel(), colour[..., 2].ravel())[0, 1]) < 0.03


def test_poisson_noise_has_the_variance_of_counts():
    ramp = np.repeat(np.arange(256, dtype=np.float32)[:, None] / 255, 800, axis=1)[:, :, None]
    noise = poisson_noise(ramp, np.random.default_rng(0))
    assert noise.mean() == pytest.approx(0, abs=1e-3)
    np.testing.assert_allclose(
        noise.var(axis=(1, 2))[1:], ramp[1:, 0, 0] / 256, rtol=0.25
    )  # 256 distinct levels: 256 photons at white, and a count's variance is its mean


def test_jpeg_keeps_colours_and_loses_more_at_lower_quality(hr):
    assert psnr(jpeg(hr, 95), hr) > psnr(jpeg(hr, 30), hr) + 3
    red = np.zeros((16, 16, 3), np.float32)
    red[..., 0] = 0.8
    np.testing.assert_allclose(jpeg(red, 95), red, atol=0.03)


@pytest.mark.parametrize(("size", "scale"), [((10, 16), 4), ((16, 16), 0), ((0, 16), 4)])
def test_a_size_that_does_not_fit_is_refused(size, scale):
    with pytest.raises(DataError, match="multiples of the scale"):
        degrade(np.zeros((*size, 3), np.float32), scale, "clean", np.random.default_rng(0))


def test_an_unknown_preset_is_refused(hr):
    with pytest.raises(DataError, match="clean, mild, standard"):
        degrade(hr, 4, "medium", np.random.default_rng(0))
