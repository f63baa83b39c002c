"""Where tiles lie and how their windows add up."""

from itertools import pairwise

import numpy as np
import pytest

from tudsr.profile import UpscaleSettings
from tudsr.upscale.tiles import blend, plan_tiles


@pytest.mark.parametrize("size", [(64, 64), (65, 200), (500, 333), (30, 100)])
@pytest.mark.parametrize("overlap", [0, 16, 32])
@pytest.mark.parametrize("even", [False, True])
def test_the_windows_of_all_tiles_sum_to_exactly_one(size, overlap, even):
    total = np.zeros((*size, 1), np.float32)
    how = UpscaleSettings(tile_px=64, overlap_px=overlap, even_tiles=even)
    tiles = plan_tiles(*size, how, 16)
    for tile in tiles:
        blend(total, np.ones((tile.rows.padded, tile.columns.padded, 1), np.float32), tile)
    assert (total == 1).all()


@pytest.mark.parametrize(
    ("side", "floor_px", "tile_px", "count"),
    [(2048, 0, 528, 4), (600, 0, 320, 2), (600, 400, 400, 2), (545, 0, 288, 2), (544, 0, 544, 1)],
)
def test_even_tiles_are_as_small_as_their_number_allows(side, floor_px, tile_px, count):
    how = UpscaleSettings(tile_px=544, overlap_px=16, even_tiles=True, floor_px=floor_px)
    tiles = plan_tiles(side, 16, how, 16)
    assert [tile.rows.padded for tile in tiles] == [tile_px] * count
    uneven = plan_tiles(side, 16, how.model_copy(update={"even_tiles": False}), 16)
    assert len(uneven) == count


@pytest.mark.parametrize("side", [513, 600, 896, 897, 1100, 2048, 2049, 5000])
@pytest.mark.parametrize(("overlap", "multiple"), [(64, 64), (50, 64), (256, 8), (0, 16)])
def test_tiles_are_few_and_spread_evenly(side, overlap, multiple):
    how = UpscaleSettings(tile_px=512, overlap_px=overlap)
    rows = [tile.rows for tile in plan_tiles(side, 16, how, multiple)]
    assert rows[0].start == 0 and rows[-1].stop == side
    assert len(rows) == -(-(side - overlap) // (512 - overlap))
    overlaps = [before.stop - after.start for before, after in pairwise(rows)]
    assert min(overlaps) >= overlap
    # As even as starts on the codec's lattice allow.
    assert max(overlaps) - min(overlaps) < 2 * multiple
    if (512 - overlap) % multiple == 0:
        assert all(row.start % multiple == 0 for row in rows[:-1])
    for (before, after), px in zip(pairwise(rows), overlaps, strict=True):
        assert before.fade_out == after.fade_in
        assert after.fade_in.width == px / 2
        assert after.fade_in.centre == after.start + px / 2
