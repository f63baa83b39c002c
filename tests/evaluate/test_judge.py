"""The gate's tiles: whatever the model's own are, there is a seam to judge."""

import pytest

from tudsr.evaluate.judge import tiled
from tudsr.profile import UpscaleSettings
from tudsr.upscale.tiles import plan_tiles


@pytest.mark.parametrize(("side", "tile_px", "overlap_px"), [(512, 544, 32), (192, 512, 64)])
def test_a_crop_within_one_tile_is_judged_in_four(side, tile_px, overlap_px):
    how = tiled(UpscaleSettings(tile_px=tile_px, overlap_px=overlap_px), side, 16)
    assert len(plan_tiles(side, side, how, 16)) == 4
    assert how.overlap_px == overlap_px


def test_a_crop_larger_than_a_tile_is_enlarged_as_any_picture():
    how = UpscaleSettings(tile_px=512, overlap_px=64)
    assert tiled(how, 1024, 16) == how
