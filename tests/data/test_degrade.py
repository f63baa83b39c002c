import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy.ndimage import correlate

from tudsr.data.degrade import apply_recipe, degrade, jpeg, sample_rng
from tudsr.data.presets import PRESETS
from tudsr.data.recipe import draw_recipe
from tudsr.errors import DataError
from tudsr.images.resize import bicubic_resize


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


def test_jpeg_keeps_colours_and_loses_more_at_lower_quality(scene):
    levels = scene(7, 128)
    good, poor = (jpeg(levels, quality).astype(float) / 255 for quality in (95, 30))
    assert psnr(good, levels / 255) > psnr(poor, levels / 255) + 3
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 200
    np.testing.assert_allclose(jpeg(red, 95).astype(float), red, atol=8)


@pytest.mark.parametrize(("size", "scale"), [((10, 16), 4), ((16, 16), 0), ((0, 16), 4)])
def test_a_size_that_does_not_fit_is_refused(size, scale):
    with pytest.raises(DataError, match="multiples of the scale"):
        degrade(np.zeros((*size, 3), np.float32), scale, "clean", np.random.default_rng(0))


def test_an_unknown_preset_is_refused(hr):
    with pytest.raises(DataError, match="clean, mild, standard"):
        degrade(hr, 4, "medium", np.random.default_rng(0))


def plain_chain(hr, recipe):
    """The recipe step by step with SciPy and Pillow-free arithmetic: what `degrade` must equal."""
    import cv2

    from tudsr.data.noise import noise_for

    def soften(image, settings):
        if settings.blur is not None:
            image = np.stack(
                [correlate(image[..., c], settings.blur, mode="mirror") for c in range(3)], -1
            )
        return resize(image, settings.size, settings.interpolation)

    def resize(image, size, interpolation):
        if image.shape[:2] == size:
            return image
        image = cv2.resize(image, size[::-1], interpolation=interpolation)
        return image.clip(0, 255) if interpolation == cv2.INTER_CUBIC else image

    def stored(image, quality):
        pixels = np.rint(image.clip(0, 255)).astype(np.uint8)
        data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1].astype(np.float32)

    image = soften(hr * 255, recipe.first)
    image = stored(image + noise_for(image, recipe.first.noise), recipe.first_quality)
    image = soften(image, recipe.second)
    image = (image + noise_for(image, recipe.second.noise)).clip(0, 255)
    if not recipe.jpeg_last:
        image = stored(image, recipe.last_quality)
    image = resize(image, recipe.size, recipe.interpolation)
    if recipe.sinc is not None:
        image = np.stack(
            [correlate(image[..., c], recipe.sinc, mode="mirror") for c in range(3)], -1
        )
    return (stored(image, recipe.last_quality) if recipe.jpeg_last else image).clip(0, 255) / 255


def test_the_fast_chain_does_what_the_recipe_says(hr):
    """Narrowed and separated kernels move a value across a rounding now and then, no more."""
    for index in range(12):
        recipe = draw_recipe(PRESETS["mild"], (128, 128), (32, 32), sample_rng(1, "a", index))
        difference = np.abs(apply_recipe(hr, recipe) - plain_chain(hr, recipe)) * 255
        assert difference.mean() < 0.5
        assert np.quantile(difference, 0.99) < 5


def test_a_recipe_is_all_there_is_to_a_sample(hr):
    rng = sample_rng(2, "b", 1)
    recipe = draw_recipe(PRESETS["standard"], (128, 128), (32, 32), sample_rng(2, "b", 1))
    assert np.array_equal(apply_recipe(hr, recipe), degrade(hr, 4, "standard", rng))
