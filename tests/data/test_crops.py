import hashlib

import numpy as np
import pytest
from PIL import Image

from tests.conftest import scene
from tudsr.data.crops import draw_crop, reduced_to
from tudsr.profile import CropSettings, load_profile

TINY = load_profile("tiny").data.crops


@pytest.fixture
def photo():
    return Image.fromarray(scene(0, 160))


def drawn(photo, seed, crop_px=64, settings=TINY):
    return draw_crop(photo, crop_px, np.random.default_rng(seed), settings)


@pytest.mark.parametrize("name", ["tiny", "small", "smoke"])
def test_the_small_profiles_draw_what_they_drew_before_these_were_settings(name):
    """In grey levels, since the last bit of a gamma curve may differ between processors."""
    settings, seen = load_profile(name).data.crops, hashlib.sha256()
    for side in (160, 320):
        for seed in range(60):
            crop = drawn(Image.fromarray(scene(0, side)), seed, settings=settings)
            seen.update(np.rint(crop * 255).astype(np.uint8).tobytes())
    assert seen.hexdigest()[:16] == "9b30eef122f6fb82"


def test_the_paper_profiles_crops_are_windows_of_the_picture_and_their_mirrors():
    settings = load_profile("sd21").data.crops
    assert settings == CropSettings()
    pixels = scene(0, 96)
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (64, 64), (0, 1))
    places = {np.ascontiguousarray(np.moveaxis(w, 0, -1)).tobytes() for r in windows for w in r}
    mirrored = []
    for seed in range(40):
        crop = np.rint(drawn(Image.fromarray(pixels), seed, settings=settings) * 255)
        levels = crop.astype(np.uint8)
        mirrored.append(levels.tobytes() not in places)
        assert levels[:, :: -1 if mirrored[-1] else 1].tobytes() in places
    assert 10 < sum(mirrored) < 30


def test_each_kind_of_change_can_be_turned_off_by_itself():
    """A picture whose rows, columns and channels differ."""
    photo = Image.fromarray(scene(2, 64))
    plain = CropSettings(flip=False)
    for change, kinds in (
        ({}, 1),
        ({"flip": True}, 2),
        ({"turn": True}, 4),
        ({"recolour": 1.0}, 60),
    ):
        settings = plain.model_copy(update=change)
        assert len({drawn(photo, seed, 64, settings).tobytes() for seed in range(60)}) == kinds


def test_a_picture_is_reduced_until_its_shorter_side_is_the_crops():
    face = Image.fromarray(scene(0, 128))
    expected = face.resize((64, 64), Image.Resampling.LANCZOS)
    assert reduced_to(face, 64).tobytes() == expected.tobytes()
    assert reduced_to(face.crop((0, 0, 100, 75)), 50).size == (67, 50)
    assert reduced_to(face, 128) is face and reduced_to(face, 200) is face


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
