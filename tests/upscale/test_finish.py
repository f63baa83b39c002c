"""Colour and fidelity, checked on shifts and drifts whose right answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from tudsr.images import canvas
from tudsr.images.canvas import bands
from tudsr.images.resize import bicubic_resize
from tudsr.upscale.finish import LEAST_BACK_PROJECTION, Finish
from tudsr.upscale.round_trip import RoundTrip, there_and_back


def lr_picture(height=48, width=64) -> np.ndarray:
    return np.random.default_rng(0).random((height, width, 3), dtype=np.float32)


def colour_fix(result, lr, method, fidelity=1.0) -> np.ndarray:
    size = result.shape[:2]
    finish = Finish(lr, size, method, fidelity)
    for rows in bands(*size) if finish.is_needed else ():
        finish.look(rows, result[rows])
    finish.settle()
    return np.concatenate([finish.apply(rows, result[rows]) for rows in bands(*size)])


def test_none_changes_nothing():
    result = lr_picture(96, 128)
    assert (colour_fix(result, lr_picture(), "none") == result).all()
    assert not Finish(lr_picture(), (96, 128), "none").is_needed


@pytest.mark.parametrize("method", ["wavelet", "adain"])
@pytest.mark.parametrize("scale", [2, 3.5, 8])
def test_the_enlarged_reference_stays_as_it_is(method, scale):
    # Smooth: of white noise enlarging loses a part, which the wavelet correction gives back.
    lr = bicubic_resize(lr_picture(6, 8), 48, 64)
    enlarged = bicubic_resize(lr, round(48 * scale), round(64 * scale))
    tolerance = 3e-3 if method == "wavelet" else 1e-4
    assert np.abs(colour_fix(enlarged, lr, method) - enlarged).max() < tolerance


@pytest.mark.parametrize("method", ["wavelet", "adain"])
def test_a_constant_cast_is_removed(method):
    lr = lr_picture()
    enlarged = bicubic_resize(lr, 192, 256)
    cast = enlarged + np.array([0.1, -0.05, 0.2], np.float32)
    without = colour_fix(enlarged, lr, method)
    assert np.abs(colour_fix(cast, lr, method) - without).max() < 1e-4


def test_adain_sets_mean_and_deviation():
    lr = lr_picture()
    enlarged = bicubic_resize(lr, 192, 256)
    fixed = colour_fix(enlarged * 0.6 + 0.3, lr, "adain")
    np.testing.assert_allclose(fixed.mean((0, 1)), enlarged.mean((0, 1)), atol=1e-5)
    np.testing.assert_allclose(fixed.std((0, 1)), enlarged.std((0, 1)), atol=1e-5)


def test_adain_of_a_flat_channel_only_shifts():
    fixed = colour_fix(np.full((32, 32, 3), 0.9, np.float32), lr_picture(8, 8), "adain")
    assert np.isfinite(fixed).all()
    assert np.ptp(fixed) < 1


def test_wavelet_takes_low_frequencies_from_the_input_and_detail_from_the_result():
    """A slow wave goes; one that the input's grid cannot hold stays, whatever is projected back.

    A Gaussian of sigma s passes exp(-2 (pi s / period)²).
    """
    lr = np.full((128, 128, 3), 0.5, np.float32)
    x = np.arange(512, dtype=np.float32)[None, :, None]
    slow, fast = 0.1 * np.cos(2 * np.pi * x / 512), 0.1 * np.cos(2 * np.pi * x / 4)
    fixed = colour_fix(0.5 + slow + fast + np.zeros((512, 512, 3), np.float32), lr, "wavelet")
    inside = (fixed - 0.5)[64:-64, 64:-64]
    wave = np.broadcast_to(x[:, 64:-64], inside.shape)

    def amplitude(period):
        return 2 * np.abs((inside * np.exp(-2j * np.pi * wave / period)).mean())

    expected = 1 - np.exp(-2 * (np.pi * 3.3 * 4 / 512) ** 2)
    left = np.abs(inside[..., 0].reshape(-1, 4).mean(1)).max()  # the fast wave averages out
    assert left < 0.1 * expected + 2e-3
    assert amplitude(4) == pytest.approx(0.1, rel=0.01)


def kept_of(difference, lr, method="wavelet") -> float:
    """Of what a reduced result is off its input by: the part left after the correction."""
    restored = bicubic_resize(lr + difference, 256, 256)

    def off(picture):
        return np.abs(bicubic_resize(picture, 64, 64) - lr)[8:-8, 8:-8].mean()

    return off(colour_fix(restored, lr, method)) / off(restored)


def fine_wave(amplitude) -> np.ndarray:
    """Of 4 pixels, which colour alone leaves as it is."""
    x = np.arange(64, dtype=np.float32)[None, :, None]
    return amplitude * np.cos(2 * np.pi * x / 4) + np.zeros((64, 64, 3), np.float32)


def test_by_default_three_tenths_of_a_small_drift_are_kept():
    lr = bicubic_resize(lr_picture(32, 32), 64, 64)
    assert kept_of(fine_wave(0.02), lr) == pytest.approx(1 - LEAST_BACK_PROJECTION, abs=0.05)
    assert kept_of(fine_wave(0.02), lr, "none") == 1


def test_the_noise_that_a_model_has_removed_does_not_come_back():
    structure = bicubic_resize(lr_picture(8, 8), 64, 64)
    noise = np.random.default_rng(1).normal(0, 0.05, structure.shape).astype(np.float32)
    assert kept_of(-noise, structure + noise) > 0.9
    assert kept_of(-noise / 20, structure + noise / 20) < 0.6


@pytest.mark.parametrize("method", ["wavelet", "adain", "none"])
def test_at_fidelity_0_the_reduced_result_is_the_input(method):
    lr = bicubic_resize(lr_picture(24, 32), 48, 64)  # not white noise: of what a picture may hold
    wild = lr_picture(192, 256)

    def off(fidelity):
        fixed = colour_fix(wild, lr, method, fidelity)
        return np.abs(bicubic_resize(fixed, 48, 64) - lr).mean() * 255

    levels = [off(f) for f in (0, 0.25, 0.5, 0.75, 1)]
    assert levels == sorted(levels)
    assert levels[0] < 0.25
    assert levels[-1] > 2


def test_plain_enlarging_is_faithful_already():
    lr = bicubic_resize(lr_picture(24, 32), 48, 64)
    enlarged = bicubic_resize(lr, 120, 160)
    fixed = colour_fix(enlarged, lr, "wavelet", 0.0)
    assert np.abs(fixed - enlarged).mean() < 0.02  # less blurred, but the same picture


@pytest.mark.parametrize("size", [(96, 128), (100, 301), (768, 1024), (72, 512)])
def test_the_way_there_and_back_is_the_two_resizings(size):
    plane = lr_picture()[:, :, 0]
    axes = [RoundTrip(n, big) for n, big in zip(plane.shape, size, strict=True)]
    expected = bicubic_resize(bicubic_resize(plane, *size), *plane.shape)
    made = there_and_back(plane, *(axis.part(slice(None)) for axis in axes))
    np.testing.assert_allclose(made, expected, atol=1e-5)


def test_where_the_ratio_is_whole_weights_differ_at_the_borders_alone():
    others = RoundTrip(64, 512).part(slice(None)).others
    assert 0 < len(others) <= 16 and not any(8 <= i < 56 for i in others)
    assert len(RoundTrip(64, 512).part(slice(16, 48)).others) == 0


def test_the_correction_does_not_depend_on_how_rows_and_blocks_are_grouped(monkeypatch):
    lr, wild = lr_picture(200, 120), lr_picture(400, 240)
    whole = colour_fix(wild, lr, "wavelet", 0.3)
    monkeypatch.setattr(canvas, "BAND_BYTES", 12 * 240 * 10)
    monkeypatch.setattr(canvas, "_BLOCK_PX", 50)
    np.testing.assert_allclose(colour_fix(wild, lr, "wavelet", 0.3), whole, atol=2e-6)
