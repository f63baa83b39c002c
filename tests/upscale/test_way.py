"""Which passes a picture takes."""

import cv2
import numpy as np
import pytest

from tests.upscale.test_upscaler import Same
from tudsr.images.resize import bicubic_resize
from tudsr.profile import UpscaleSettings
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


def test_a_damaged_input_goes_in_small_steps_and_a_clean_one_does_not():
    ways = {"one": [(4, 1)], "two": [(2, 1), (2, 2)]}
    for pixels, expected in ((soft(), "two"), (sharp(), "one")):
        runtime = Same()
        Upscaler(runtime, CAREFUL).upscale(pixels, 4)
        given = Same()
        Upscaler(given, PLAIN).upscale(pixels, 4, ways[expected])
        assert runtime.seen == given.seen


@pytest.mark.parametrize(
    ("scale", "clean", "damaged"),
    [(2, [2], [2]), (2.5, [2.5], [2, 1.25]), (4, [4], [2, 2]), (8, [4, 2], [4, 2])],
)
def test_the_papers_cascade_is_for_damage_and_for_what_one_pass_does_not_reach(
    scale, clean, damaged
):
    for looks, ratios in ((False, clean), (True, damaged)):
        assert [p.ratio for p in passes_of(scale, CAREFUL, damaged=looks)] == ratios
        assert [p.ratio for p in passes_of(scale, PLAIN, damaged=looks)] == clean


def test_nothing_is_looked_at_where_it_changes_nothing(monkeypatch):
    monkeypatch.setattr("tudsr.upscale.upscaler.looks_damaged", lambda pixels: 1 / 0)
    Upscaler(Same(), CAREFUL).upscale(soft(24), 8)
    Upscaler(Same(), PLAIN).upscale(soft(24), 4)
    with pytest.raises(ZeroDivisionError):
        Upscaler(Same(), CAREFUL).upscale(soft(24), 4)


def test_without_the_setting_a_damaged_one_goes_as_others_do():
    assert looks_damaged(soft())
    runtime = Same()
    Upscaler(runtime, PLAIN).upscale(soft(), 4)
    assert {stage for stage, _ in runtime.seen} == {1}


@pytest.mark.parametrize("scale", [3, 4, 8, 16])
def test_what_a_picture_may_cost_is_the_more_of_both_ways(scale):
    pixels, target, costs = soft(48), Target(scale=scale), []
    for damaged in (False, True):
        runtime = Same()
        way = [(p.ratio, p.stage) for p in passes_of(scale, CAREFUL, damaged)]
        Upscaler(runtime, PLAIN).upscale(pixels, scale, way)
        costs.append(sum(h * w for _, (h, w, _) in runtime.seen))
    most = longest_way((48, 48), target, CAREFUL, 16)
    assert most.px == max(costs)
    assert (costs[0] < costs[1]) == (scale <= 4)
    assert most.sizes[-1] == (48 * scale, 48 * scale)
