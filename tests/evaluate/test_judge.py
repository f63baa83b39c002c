"""The gate's tiles: whatever the model's own are, there is a seam to judge."""

import pytest
from PIL import Image

from tests.conftest import scene
from tudsr.data.pairs import make_pairs
from tudsr.data.photos import list_photographs
from tudsr.evaluate.judge import examine, scores_key, tiled
from tudsr.profile import PairSettings, UpscaleSettings, load_profile
from tudsr.upscale.tiles import plan_tiles


@pytest.mark.parametrize(("side", "tile_px", "overlap_px"), [(512, 544, 32), (192, 512, 64)])
def test_a_crop_within_one_tile_is_judged_in_four(side, tile_px, overlap_px):
    how = tiled(UpscaleSettings(tile_px=tile_px, overlap_px=overlap_px), side, 16)
    assert len(plan_tiles(side, side, how, 16)) == 4
    assert how.overlap_px == overlap_px


def test_a_crop_larger_than_a_tile_is_enlarged_as_any_picture():
    how = UpscaleSettings(tile_px=512, overlap_px=64)
    assert tiled(how, 1024, 16) == how


def test_the_tiles_follow_the_pairs_that_are_judged(bundle, tmp_path):
    """The gate's step gets no section `pairs`: by its default of 512 px this crop has no seam."""
    for split in ("train", "val", "test"):
        (tmp_path / "data" / split).mkdir(parents=True)
        Image.fromarray(scene(1)).save(tmp_path / "data" / split / "a.png")
    photos, settings = list_photographs(tmp_path / "data"), PairSettings(hr_crop_px=96, scales=(4,))
    make_pairs(photos, settings, 0, tmp_path / "pairs")
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"extends: smoke\ndata: {{root: {tmp_path}/data}}\nupscale: {{tile_px: 544}}")
    given = load_profile(mine).only("runtime", "data", "base", "upscale", "gate", "registry")
    adapters = {n: bundle / f"adapter{n}.safetensors" for n in (1, 2)}
    assert "seam_ratio" in examine(given, adapters, tmp_path / "pairs").tables["model"].metrics


def test_scores_are_kept_for_the_weights_that_measured_them(tmp_path):
    mine, weights = tmp_path / "mine.yaml", tmp_path / "vgg16.safetensors"
    mine.write_text(f"gate: {{metric_trunk: vgg16, metric_trunk_path: {weights}}}")
    (tmp_path / "pairs.json").write_text("{}")
    weights.write_text("as published")
    before = scores_key(tmp_path, load_profile(mine))
    weights.write_text("changed")
    assert scores_key(tmp_path, load_profile(mine)) != before
