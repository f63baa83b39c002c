"""Which passes a picture takes, and that damage is seen on a few windows of it."""

import math

import cv2
import numpy as np
import pytest

from tests.conftest import scene
from tudsr.errors import SettingsError
from tudsr.profile import UpscaleSettings
from tudsr.upscale.cascade import small_steps
from tudsr.upscale.target import Target
from tudsr.upscale.upscaler import Upscaler
from tudsr.upscale.way import PROBE_PX, damage_seen, longest_way

PLAIN = UpscaleSettings(tile_px=64, overlap_px=16, colour="none", one_pass_to=4)
CAREFUL = PLAIN.model_copy(update={"small_steps_from": 0.4})


class Smoothing:
    """Takes away whatever is fine, as a model takes noise away; notes the tiles it saw."""

    size_multiple = 16
    side_by_side = 1

    def __init__(self):
        self.seen = []

    def restore(self, image, stage, full_precision=False):
        self.seen.append((stage, image.shape))
        return cv2.GaussianBlur(image, (0, 0), 1.0)


def picture(noise_levels: float, side: int = 120) -> np.ndarray:
    """Soft structure, with so much noise on it."""
    rng = np.random.default_rng(0)
    soft = cv2.GaussianBlur(scene(3, side).astype(np.float32) / 255, (0, 0), 3)
    noise = rng.normal(0, noise_levels / 255, soft.shape)
    return np.clip(soft + noise, 0, 1).astype(np.float32)


@pytest.mark.parametrize(
    ("scale", "ratios"),
    [(1.5, [1.5]), (2, [2]), (2.5, [2.5]), (3, [2, 1.5]), (4, [2, 2]), (5, [2.5, 2]),
     (6, [2, 2, 1.5]), (8, [2, 2, 2]), (10, [2.5, 2, 2]), (16, [2, 2, 2, 2])],
)  # fmt: skip
def test_small_steps_are_of_2_with_the_rest_where_it_is_worth_a_pass(scale, ratios):
    passes = small_steps(scale)
    assert [p.ratio for p in passes] == ratios
    assert math.prod(ratios) == scale
    assert [p.stage for p in passes] == [1, 2, 2, 2][: len(ratios)]


@pytest.mark.parametrize("scale", [1.4, 16.1, float("nan")])
def test_small_steps_reach_as_far_as_others(scale):
    with pytest.raises(SettingsError, match=r"1\.5 to 16"):
        small_steps(scale)


def test_a_damaged_input_goes_in_small_steps_and_a_clean_one_does_not():
    noisy, clean = picture(8), picture(0)
    results = {}
    for name, pixels in (("noisy", noisy), ("clean", clean)):
        chosen = Upscaler(Smoothing(), CAREFUL).upscale(pixels, 4)
        one, two = (
            Upscaler(Smoothing(), PLAIN).upscale(pixels, 4, way)
            for way in ([(4, 1)], [(2, 1), (2, 2)])
        )
        results[name] = [np.array_equal(chosen, one), np.array_equal(chosen, two)]
    assert results == {"noisy": [False, True], "clean": [True, False]}


def test_without_the_setting_nothing_is_looked_at():
    runtime = Smoothing()
    Upscaler(runtime, PLAIN).upscale(picture(8, 16), 4)
    assert runtime.seen == [(1, (64, 64, 3))]


def test_where_both_ways_are_one_nothing_is_looked_at():
    runtime = Smoothing()
    Upscaler(runtime, CAREFUL).upscale(picture(8, 32), 2)
    assert runtime.seen == [(1, (64, 64, 3))]


def test_only_four_windows_are_looked_at_however_large_the_picture():
    seen = []

    def twice(window):
        seen.append(window.shape)
        return np.repeat(np.repeat(window, 2, 0), 2, 1)

    damage_seen(np.zeros((1000, 400, 3), np.float32), twice)
    assert seen == [(PROBE_PX, PROBE_PX, 3)] * 4
    seen.clear()
    damage_seen(np.zeros((300, 50, 3), np.float32), twice)
    assert seen == [(PROBE_PX, 50, 3)] * 2
    seen.clear()
    assert damage_seen(np.zeros((1, 2, 3), np.float32), twice) < 0.1
    assert seen == [(1, 2, 3)]


def test_the_more_noise_the_more_damage_is_seen():
    bare = Upscaler(Smoothing(), PLAIN)
    seen = [damage_seen(picture(n), lambda lr: bare.upscale(lr, 2)) for n in (0, 1, 3, 8, 20)]
    assert seen == sorted(seen) and seen[0] < 0.2 < 0.5 < seen[-1]


@pytest.mark.parametrize("scale", [3, 4, 8, 16])
def test_what_a_picture_may_cost_is_the_more_of_both_ways(scale):
    pixels, target = picture(8, 48), Target(scale=scale)
    most = longest_way((48, 48), target, CAREFUL, 16)
    for way in (None, [(p.ratio, p.stage) for p in small_steps(scale)]):
        runtime = Smoothing()
        Upscaler(runtime, PLAIN).upscale(pixels, scale, way)
        assert sum(h * w for _, (h, w, _) in runtime.seen) <= most.px
    assert sum(h * w for _, (h, w, _) in runtime.seen) == most.px, "small steps cost more"
    assert most.sizes[-1] == (48 * scale, 48 * scale)
