"""The upscaler's geometry, with runtimes that need no model."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.conftest import scene
from tudsr.errors import ImageError, ModelError, SettingsError
from tudsr.images.picture import Picture
from tudsr.images.resize import bicubic_resize
from tudsr.model.runtime import load_runtime
from tudsr.profile import UpscaleSettings
from tudsr.upscale.cascade import pass_sizes, split_scale
from tudsr.upscale.interpolate import bilinear_resize, enlarge_window
from tudsr.upscale.tiles import plan_tiles
from tudsr.upscale.upscaler import Upscaler


class Same:
    """Gives tiles back as they are, and notes what it saw."""

    size_multiple = 16
    side_by_side = 1

    def __init__(self):
        self.seen = []

    def restore(self, image, stage, full_precision=False):
        self.seen.append((stage, image.shape))
        return image


SETTINGS = UpscaleSettings(tile_px=64, overlap_px=16, colour="none")


@pytest.fixture(scope="module")
def pixels():
    return scene(2, 40).astype(np.float32)[:36] / 255


def test_a_picture_below_the_floor_is_reflected_up_to_it_and_cut_after(pixels):
    small, runtime = pixels[:9, :20], Same()
    settings = SETTINGS.model_copy(update={"floor_px": 48})
    result = Upscaler(runtime, settings).upscale(small, 4)
    # x4 is x2 (18 x 40) and x2 (36 x 80): sides below 48 are raised, the long one is tiled.
    assert runtime.seen[0] == (1, (48, 48, 3))
    assert {shape for stage, shape in runtime.seen if stage == 2} == {(48, 64, 3)}
    np.testing.assert_array_equal(result, Upscaler(Same(), SETTINGS).upscale(small, 4))
    beyond = plan_tiles(9, 20, SETTINGS.model_copy(update={"floor_px": 1000}), 16)
    assert [(t.rows.padded, t.columns.padded) for t in beyond] == [(64, 64)], "a tile is the limit"


@pytest.mark.parametrize("scale", [1.5, 2, 3, 4, 6, 8, 16])
def test_with_an_idle_model_tiling_leaves_plain_interpolation(pixels, scale):
    tiled = Upscaler(Same(), SETTINGS).upscale(pixels, scale)
    current = pixels
    sizes = pass_sizes(*pixels.shape[:2], split_scale(scale))
    for step, size in zip(split_scale(scale), sizes, strict=True):
        resize = bicubic_resize if step.stage == 1 else bilinear_resize
        current = np.clip(resize(current, *size), 0, 1)
    assert tiled.shape == (round(36 * scale), round(40 * scale), 3)
    np.testing.assert_allclose(tiled, current, atol=2e-6)


def test_bilinear_between_the_stages_is_torchs(pixels):
    ours = bilinear_resize(pixels, 72, 80)
    tensor = torch.from_numpy(pixels.transpose(2, 0, 1))[None]
    theirs = torch.nn.functional.interpolate(tensor, scale_factor=2, mode="bilinear")
    np.testing.assert_allclose(ours, theirs[0].permute(1, 2, 0).numpy(), atol=1e-6)


@pytest.mark.parametrize("method", ["bicubic", "bilinear"])
def test_a_window_is_that_part_of_the_whole(pixels, method):
    whole = enlarge_window(pixels, (72, 80), (slice(0, 72), slice(0, 80)), method)
    part = enlarge_window(pixels, (72, 80), (slice(10, 50), slice(33, 80)), method)
    np.testing.assert_allclose(part, whole[10:50, 33:80], atol=1e-6)


def test_the_papers_ratios():
    assert [(p.ratio, p.stage) for p in split_scale(4)] == [(2, 1), (2, 2)]
    assert [(p.ratio, p.stage) for p in split_scale(8)] == [(4, 1), (2, 2)]
    assert [(p.ratio, p.stage) for p in split_scale(4, 4)] == [(4, 1)]
    assert split_scale(4.5, 4) == split_scale(4.5)
    for scale in (1.4, 16.1, float("nan")):
        with pytest.raises(SettingsError, match=r"1\.5 to 16"):
            split_scale(scale)


def test_a_model_may_reach_x4_by_stage_1_alone(pixels):
    runtime = Same()
    upscaler = Upscaler(runtime, SETTINGS.model_copy(update={"one_pass_to": 4.0}))
    upscaler.upscale(pixels, 4)
    assert {stage for stage, _ in runtime.seen} == {1}
    assert len(runtime.seen) == upscaler.count_tiles(*pixels.shape[:2], 4)
    upscaler.upscale(pixels, 8)
    assert {stage for stage, _ in runtime.seen} == {1, 2}


def test_one_stage_runs_over_all_tiles_before_the_next_and_tiles_fit_the_model(pixels):
    runtime, calls = Same(), []
    upscaler = Upscaler(runtime, SETTINGS)
    upscaler.upscale(pixels, 8, progress=lambda done, total: calls.append((done, total)))
    stages = [stage for stage, _ in runtime.seen]
    assert stages == sorted(stages)
    assert {shape[:2] for _, shape in runtime.seen} == {(64, 64)}
    assert calls[-1] == (len(stages), len(stages))
    assert upscaler.count_tiles(*pixels.shape[:2], 8) == len(stages)


def test_a_picture_smaller_than_a_tile_is_padded_to_what_the_model_takes(pixels):
    runtime = Same()
    assert Upscaler(runtime, SETTINGS).upscale(pixels[:9, :20], 2).shape == (18, 40, 3)
    assert runtime.seen == [(1, (32, 48, 3))]


def test_transparency_depth_and_profile_survive(pixels):
    alpha = np.ones(pixels.shape[:2], np.float32)
    alpha[:, :20] = 0
    dark = np.where(alpha[..., None] > 0, pixels, 0)
    picture = Picture(dark, alpha, depth=16, icc=b"profile")
    result = Upscaler(Same(), SETTINGS).upscale_picture(picture, 2)
    assert result.alpha is not None
    assert result.alpha.shape == (72, 80)
    assert (result.depth, result.icc) == (16, b"profile")
    # What lies under transparent pixels does not darken the visible edge.
    known = np.where(alpha[..., None] > 0, pixels, pixels[:, 20:21])
    opaque = Upscaler(Same(), SETTINGS).upscale(known, 2)
    np.testing.assert_allclose(result.pixels[:, 40:], opaque[:, 40:], atol=1e-5)


@pytest.mark.parametrize("faint", [1, 12])
def test_hardly_visible_black_beside_white_gives_no_fringe(faint):
    """A soft edge as programs store it: white, black at an alpha of 1 or 12 of 255, nothing."""
    pixels, alpha = np.zeros((16, 40, 3), np.float32), np.zeros((16, 40), np.float32)
    pixels[:, 20:], alpha[:, 20:], alpha[:, 19] = 1, 1, faint / 255
    result = Upscaler(Same(), SETTINGS).upscale_picture(Picture(pixels, alpha), 2)
    assert result.alpha is not None
    over_white = result.pixels * result.alpha[..., None] + 1 - result.alpha[..., None]
    assert over_white.min() >= 1 - 2 * faint / 255


def test_a_faint_shadow_beside_white_stays_dark():
    pixels, alpha = np.zeros((16, 60, 3), np.float32), np.full((16, 60), 0.05, np.float32)
    pixels[:, 40:], alpha[:, 40:] = 1, 1
    result = Upscaler(Same(), SETTINGS).upscale_picture(Picture(pixels, alpha), 2)
    assert result.pixels[:, :60].max() < 0.01, "ten pixels from the white and more"


class Tints(Same):
    def restore(self, image, stage, full_precision=False):
        y = np.linspace(0, 0.1, image.shape[0], dtype=np.float32)[:, None, None]
        return np.asarray(image + y * np.array([1, 0, -1], np.float32), np.float32)


@pytest.mark.parametrize("colour", ["none", "adain", "wavelet"])
def test_a_grey_picture_is_not_tinted_in_rows_or_whole(pixels, colour):
    upscaler = Upscaler(Tints(), SETTINGS.model_copy(update={"colour": colour}))
    grey = Picture(pixels[:, :, [0, 0, 0]], pixels[:, :, 1], grey=True)
    rows = np.concatenate(list(upscaler.upscale_rows(grey, 4)))
    whole = upscaler.upscale_picture(grey, 4)
    assert np.ptp(rows[:, :, :3], axis=2).max() == np.ptp(whole.pixels, axis=2).max() == 0
    assert rows.shape[2] == 4 and whole.grey and whole.alpha is not None
    coloured = upscaler.upscale_picture(replace(grey, grey=False), 4)
    assert np.ptp(coloured.pixels, axis=2).max() > 1 / 255, "the runtime tints"
    np.testing.assert_allclose(whole.pixels[..., 0], coloured.pixels.mean(2), atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"tile_px": 70}, "try 64"),
        ({"overlap_px": 40}, "try 8"),
        ({"window_px": 24}, "multiple of 16"),
        ({"window_px": 32, "window_overlap_px": 20}, "window_overlap_px is 20.*try 4"),
    ],
)
def test_a_tile_that_does_not_fit_is_an_error_with_a_remedy(changes, remedy):
    with pytest.raises(SettingsError, match=remedy):
        Upscaler(Same(), SETTINGS.model_copy(update=changes))


@pytest.mark.parametrize("bad", [np.zeros((8, 8), np.float32), np.full((8, 8, 3), np.nan)])
def test_pixels_that_are_no_picture_are_refused(bad):
    with pytest.raises(ImageError):
        Upscaler(Same(), SETTINGS).upscale(bad.astype(np.float32), 2)


def test_a_model_that_gives_nan_is_an_error(pixels):
    class Broken(Same):
        def restore(self, image, stage, full_precision=False):
            return np.full_like(image, np.nan)

    with pytest.raises(ModelError, match="not finite"):
        Upscaler(Broken(), SETTINGS).upscale(pixels, 2)


def test_a_tile_that_overflows_in_half_precision_is_made_again_in_full(pixels):
    class Overflows(Same):
        def restore(self, image, stage, full_precision=False):
            good = super().restore(image, stage)
            return good if full_precision or len(self.seen) != 3 else np.full_like(good, np.nan)

    notes, runtime = [], Overflows()
    made = Upscaler(runtime, SETTINGS).upscale(pixels, 4, note=notes.append)
    np.testing.assert_array_equal(made, Upscaler(Same(), SETTINGS).upscale(pixels, 4))
    assert notes == ["a tile of stage 1 was not finite and was made again in fp32"]
    assert len(runtime.seen) == Upscaler(Same(), SETTINGS).count_tiles(36, 40, 4) + 1


def test_what_progress_raises_ends_the_work_at_once(pixels):
    class StopError(Exception):
        pass

    def stop(done, total):
        if done == 2:
            raise StopError

    runtime = Same()
    with pytest.raises(StopError):
        Upscaler(runtime, SETTINGS).upscale(pixels, 4, progress=stop)
    assert len(runtime.seen) == 2


def test_the_same_input_and_settings_give_the_same_bytes_whatever_the_seed(bundle, pixels):
    """The small base's codec has no distribution to draw from."""
    made = [
        Upscaler(load_runtime(bundle, "cpu", "fp32", seed), SETTINGS).upscale(pixels, 4)
        for seed in (None, None, 7)
    ]
    assert made[0].tobytes() == made[1].tobytes() == made[2].tobytes()
