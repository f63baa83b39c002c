"""Soft and grainy inputs are told from clean ones, without a model."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT
from tudsr.images.read import read_image
from tudsr.images.resize import bicubic_resize
from tudsr.upscale import damage
from tudsr.upscale.damage import WINDOW_PX, fineness, looks_damaged


@pytest.fixture(scope="module")
def clean():
    """Validation photographs, properly reduced: detail up to the pixel grid."""
    made = []
    for path in sorted((ROOT / "data" / "val").glob("*.webp")):
        pixels = read_image(path).pixels[:1200, :1200]
        made.append(np.clip(bicubic_resize(pixels, 300, 300), 0, 1))
    assert len(made) >= 4
    return made


def rounded(pixels) -> np.ndarray:
    return (np.rint(np.clip(pixels, 0, 1) * 255) / 255).astype(np.float32)


def with_noise(pixels, levels: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, levels / 255, pixels.shape)
    return rounded(pixels + noise)


def as_jpeg(pixels, quality: int) -> np.ndarray:
    out = io.BytesIO()
    Image.fromarray(np.rint(pixels * 255).astype(np.uint8)).save(out, "JPEG", quality=quality)
    return np.asarray(Image.open(out), np.float32) / 255


def test_clean_photographs_look_clean(clean):
    assert not any(looks_damaged(rounded(pixels)) for pixels in clean)


def test_blurred_ones_look_damaged(clean):
    blurred = [rounded(cv2.GaussianBlur(pixels, (0, 0), 1.2)) for pixels in clean]
    assert all(looks_damaged(pixels) for pixels in blurred)
    softer = [
        fineness(b).crossed < fineness(c).crossed for b, c in zip(blurred, clean, strict=True)
    ]
    assert all(softer)


def test_noise_is_seen_on_all_but_those_that_are_texture_all_over(clean):
    noisy = [looks_damaged(with_noise(pixels, 6)) for pixels in clean]
    assert sum(noisy) >= len(noisy) - 1


def test_compression_alone_is_no_damage_that_small_steps_help_with(clean):
    assert sum(looks_damaged(as_jpeg(pixels, 75)) for pixels in clean) <= 1


def drawing(kind: str, side: int = 300) -> np.ndarray:
    """Sharp edges along rows and columns alone."""
    rng = np.random.default_rng(0)
    if kind == "stripes":
        return np.tile((np.arange(side) // 7 % 2).astype(np.float32)[None, :, None], (side, 1, 3))
    made = np.ones((side, side, 3), np.float32)
    for _ in range(40):
        top, left, height, width = rng.integers(5, side // 2, 4)
        made[top : top + height, left : left + width] = rng.random(3)
    return made


@pytest.mark.parametrize("kind", ["stripes", "screenshot"])
def test_a_drawing_of_sharp_edges_is_not_soft_until_it_is_blurred(kind):
    sharp = rounded(drawing(kind))
    assert not looks_damaged(sharp)
    assert looks_damaged(rounded(cv2.GaussianBlur(sharp, (0, 0), 1.2)))


def test_white_noise_is_as_fine_as_can_be():
    grey = with_noise(np.full((200, 200, 3), 0.5), 10)
    assert fineness(grey) == pytest.approx((1, 1, 1), abs=0.15)
    assert looks_damaged(grey)


@pytest.mark.parametrize("side", [1, 12, 13, 40, 300])
def test_where_there_is_nothing_but_rounding_nothing_is_said(side):
    sky = np.linspace(0.4, 0.5, side, dtype=np.float32)
    flat = rounded(np.broadcast_to(sky[:, None, None], (side, side, 3)))
    assert fineness(flat) is None
    assert not looks_damaged(flat)


def test_only_four_windows_are_read_however_large_the_picture():
    class Large:
        shape = 40_000, 30_000, 3
        read: list[tuple[int, int]]

        def __getitem__(self, area):
            sides = tuple(part.stop - part.start for part in area)
            assert all(p.start >= 0 and p.stop <= n for p, n in zip(area, self.shape, strict=False))
            self.read.append(sides)
            return np.zeros((*sides, 3), np.float32)

    large = Large()
    large.read = []
    assert not looks_damaged(large)
    assert large.read == [(WINDOW_PX, WINDOW_PX)] * 4


def test_of_a_small_picture_all_is_read_once():
    assert damage._windows(100, 50) == [(slice(0, 100), slice(0, 50))]
    assert len(damage._windows(1000, 50)) == 2
