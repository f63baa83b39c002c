"""Which passes a picture takes."""

import math

import cv2
import numpy as np
import pytest

from tests.upscale.test_upscaler import Same
from tudsr.errors import SettingsError
from tudsr.images.resize import bicubic_resize
from tudsr.profile import UpscaleSettings
from tudsr.upscale.cascade import small_steps
from tudsr.upscale.damage import looks_damaged
from tudsr.upscale.target import Target
from tudsr.upscale.upscaler import Upscaler
from tudsr.upscale.way import longest_way, passes_of

PLAIN = UpscaleSettings(tile_px=64, overlap_px=16, colour="none", one_pass_to=4)
CAREFUL = PLAIN.model_copy(update={"small_steps_if_damaged": True})


def soft(side: int = 120) -> np.ndarray:
    return cv2.GaussianBlur(sharp(side), (0, 0), 2)


def sharp(side: int = 120) -> np.ndarray:
    """Random detail at twice the pixel grid, reduced."""
    fine = np.random.default_rng(0).random((2 * side, 2 * side, 3), dtype=np.float32)
    fine = cv2.GaussianBlur(fine, (0, 0), 1.5)
    return np.clip(bicubic_resize(fine, side, side), 0, 1)


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
    ways = {"one": [(4, 1)], "two": [(2, 1), (2, 2)]}
    for pixels, expected in ((soft(), "two"), (sharp(), "one")):
        runtime = Same()
        Upscaler(runtime, CAREFUL).upscale(pixels, 4)
        given = Same()
        Upscaler(given, PLAIN).upscale(pixels, 4, ways[expected])
        assert runtime.seen == given.seen


def test_it_never_takes_fewer_steps_than_a_clean_one():
    paper = CAREFUL.model_copy(update={"one_pass_to": 2.0})
    assert [p.ratio for p in passes_of(2.5, paper, damaged=True)] == [2, 1.25]
    assert [p.ratio for p in passes_of(2.5, CAREFUL, damaged=True)] == [2.5]
    assert [p.ratio for p in passes_of(10, CAREFUL, damaged=True)] == [2.5, 2, 2]


def test_without_the_setting_a_damaged_one_goes_as_others_do():
    assert looks_damaged(soft())
    runtime = Same()
    Upscaler(runtime, PLAIN).upscale(soft(), 4)
    assert {stage for stage, _ in runtime.seen} == {1}


@pytest.mark.parametrize("scale", [3, 4, 8, 16])
def test_what_a_picture_may_cost_is_the_more_of_both_ways(scale):
    pixels, target = soft(48), Target(scale=scale)
    most = longest_way((48, 48), target, CAREFUL, 16)
    for way in (None, [(p.ratio, p.stage) for p in small_steps(scale)]):
        runtime = Same()
        Upscaler(runtime, PLAIN).upscale(pixels, scale, way)
        assert sum(h * w for _, (h, w, _) in runtime.seen) <= most.px
    assert sum(h * w for _, (h, w, _) in runtime.seen) == most.px, "small steps cost more"
    assert most.sizes[-1] == (48 * scale, 48 * scale)
