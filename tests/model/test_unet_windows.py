"""The UNet's windows: what they add up to, and where they lie."""

import pytest
import torch

from tests.conftest import random_bundle, scene
from tudsr.errors import SettingsError
from tudsr.model.opening import open_runtime
from tudsr.model.runtime import TorchRuntime, load_runtime
from tudsr.model.unet_windows import UNetWindows
from tudsr.profile import UpscaleSettings


@pytest.mark.parametrize("size", [(65, 200), (128, 64), (10, 70), (96, 96)])
@pytest.mark.parametrize("overlap", [0, 8, 32])
def test_what_each_place_decides_alone_is_the_wholes(size, overlap):
    """Weights sum to one everywhere: a constant and a pointwise network come out as they are."""
    latents = torch.randn(2, 4, *size, generator=torch.Generator().manual_seed(0))
    seen = []

    def pointwise(z):
        seen.append(tuple(z.shape[2:]))
        return z.tanh() + 1

    averaged = UNetWindows(64, overlap).average(pointwise, latents)
    torch.testing.assert_close(averaged, latents.tanh() + 1, atol=1e-6, rtol=1e-6)
    assert len(seen) > 1
    assert set(seen) == {(min(64, size[0]), min(64, size[1]))}


def test_latents_that_fit_are_predicted_whole():
    latents = torch.zeros(1, 4, 64, 48)
    seen = []
    UNetWindows(64, 32).average(lambda z: seen.append(z) or z, latents)
    assert len(seen) == 1 and seen[0] is latents


def test_they_overlap_by_at_least_what_was_asked_and_the_middle_counts_most():
    """96 latents in windows of 64 with 32 in common: two, and each decides its own end."""
    latents, starts = torch.zeros(1, 1, 96, 64), iter([0.0, 1.0])
    mean = UNetWindows(64, 32).average(lambda z: torch.full_like(z, next(starts)), latents)
    line = mean[0, 0, :, 0]
    assert (line[:32] == 0).all() and (line[64:] == 1).all()
    assert (line.diff() >= 0).all() and line[32] < 0.02 and line[63] > 0.98
    torch.testing.assert_close(line, 1 - line.flip(0))


def test_settings_are_pixels_and_zero_means_none():
    how = UpscaleSettings(tile_px=1024, window_px=512, window_overlap_px=256)
    assert UNetWindows.of(how, 8) == UNetWindows(64, 32)
    assert UNetWindows.of(UpscaleSettings(), 8) is None


def test_a_bundles_runtime_gives_the_codec_the_tile_and_the_unet_windows(tmp_path):
    bundle = random_bundle(
        tmp_path, "sd21", tile_px=128, overlap_px=32, window_px=64, window_overlap_px=32
    )
    runtime = load_runtime(bundle, "cpu", "fp32")
    encoded, predicted = [], []
    encode, unet = runtime.base.codec.encode, runtime.unets[1]
    runtime.base.codec.encode = lambda *a: encoded.append(tuple(a[0].shape)) or encode(*a)
    unet.register_forward_hook(lambda _, args, out: predicted.append(tuple(args[0].shape)))
    made = runtime.restore(scene(0, 128).astype("float32") / 255, 1)
    assert made.shape == (128, 128, 3)
    assert encoded == [(1, 3, 128, 128)]
    assert predicted == [(1, 4, 8, 8)] * 9


def test_a_small_model_with_windows_runs_on_torch_since_its_cpu_form_has_none(tmp_path):
    bundle = random_bundle(tmp_path, tile_px=64, window_px=32, window_overlap_px=16)
    runtime = open_runtime(bundle, "cpu", "fp32")
    assert isinstance(runtime, TorchRuntime) and runtime.windows == UNetWindows(8, 4)
    with pytest.raises(SettingsError, match=r"no upscale\.window_px"):
        open_runtime(bundle, "cpu", "fp32", "openvino")
