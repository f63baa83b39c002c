"""The second-order degradation chain that turns a high-resolution crop into a realistic input.

What is done is drawn first (tudsr.data.recipe, after Real-ESRGAN, arXiv:2107.10833; ranges in
tudsr.data.presets), then done here. Inside, pixels are grey levels 0..255 in float32: what JPEG
stores is then one rounding away.
"""

from __future__ import annotations

import hashlib

import cv2
import numpy as np
from numpy.typing import NDArray

from tudsr.data.kernels import Kernel, compact, separate
from tudsr.data.noise import noise_for, rounded
from tudsr.data.presets import find_preset
from tudsr.data.recipe import Recipe, Round, Size, draw_recipe
from tudsr.errors import DataError
from tudsr.images.resize import bicubic_resize

Pixels = NDArray[np.float32]
Stored = NDArray[np.uint8]


def sample_rng(seed: int, photo: str, index: int) -> np.random.Generator:
    """The random generator of one sample: a function of its three arguments alone.

    The state is SHA-256 of the arguments, so neighbouring indices are unrelated and neither the
    process, the number of workers nor Python's hash seed matters.
    """
    digest = hashlib.sha256(f"{seed}\n{photo}\n{index}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


def degrade(hr: Pixels, scale: int, preset: str, rng: np.random.Generator) -> Pixels:
    """Reduce a crop by ``scale`` and damage it as ``preset`` says.

    Args:
        hr: (H, W, 3) float32 RGB in [0, 1]; H and W are multiples of ``scale``.
        scale: reduction, 1 or more.
        preset: ``clean`` (antialiased bicubic reduction, nothing else), ``mild`` or ``standard``.
        rng: source of every draw.

    Returns:
        (H // scale, W // scale, 3) float32 in [0, 1].

    Raises:
        DataError: a size that is no multiple of ``scale``, or an unknown preset.
    """
    height, width = _reduced_size(hr, scale)
    ranges = find_preset(preset)
    if ranges is None:
        return np.clip(bicubic_resize(hr, height, width), 0, 1)
    recipe = draw_recipe(ranges, (hr.shape[0], hr.shape[1]), (height, width), rng)
    return apply_recipe(hr, recipe)


def apply_recipe(hr: Pixels, recipe: Recipe) -> Pixels:
    """Do to an (H, W, 3) crop in [0, 1] what the recipe says; the result is float32 in [0, 1]."""
    levels = np.multiply(hr, np.float32(255), dtype=np.float32, order="C")
    image = _softened(levels, recipe.first)
    noisy = cv2.add(image, noise_for(image, recipe.first.noise), dtype=cv2.CV_8U)
    image = jpeg(np.asarray(noisy, np.uint8), recipe.first_quality).astype(np.float32)
    image = _softened(image, recipe.second)
    image = _clipped(image + noise_for(image, recipe.second.noise))
    return _finished(image, recipe) / np.float32(255)


def jpeg(levels: Stored, quality: int) -> Stored:
    """Through a real JPEG encoder and back: (H, W, 3) grey levels, chroma halved (4:2:0)."""
    bgr = cv2.cvtColor(levels, cv2.COLOR_RGB2BGR)
    stored, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not stored:
        raise DataError(f"a crop of shape {levels.shape} could not be stored as JPEG")
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), np.uint8)


def _reduced_size(hr: Pixels, scale: int) -> Size:
    height, width = hr.shape[:2]
    if scale < 1 or min(height, width) < 1 or height % scale or width % scale:
        raise DataError(
            f"a crop of {width} x {height} cannot be reduced by {scale}: "
            "both sides must be multiples of the scale"
        )
    return height // scale, width // scale


def _softened(image: Pixels, settings: Round) -> Pixels:
    if settings.blur is not None:
        image = _filter(image, settings.blur)
    return _resize(image, settings.size, settings.interpolation)


def _finished(image: Pixels, recipe: Recipe) -> Pixels:
    """The last resize with its sinc filter, and the last JPEG, in the recipe's order."""
    if not recipe.jpeg_last:
        image = jpeg(rounded(image), recipe.last_quality).astype(np.float32)
    image = _resize(image, recipe.size, recipe.interpolation)
    if recipe.sinc is not None:
        image = _clipped(_filter(image, recipe.sinc))
    if recipe.jpeg_last:
        image = jpeg(rounded(image), recipe.last_quality).astype(np.float32)
    return image


def _filter(image: Pixels, kernel: Kernel) -> Pixels:
    """Correlate, mirrored at the edges; in two passes where the kernel is a product of two rows."""
    kernel = compact(kernel)
    rows = separate(kernel)
    border = cv2.BORDER_REFLECT_101
    if rows is None:
        return np.asarray(cv2.filter2D(image, -1, kernel, borderType=border), np.float32)
    across, down = rows
    return np.asarray(cv2.sepFilter2D(image, -1, across, down, borderType=border), np.float32)


def _resize(image: Pixels, size: Size, interpolation: int) -> Pixels:
    if image.shape[:2] == size:
        return image
    resized = np.asarray(cv2.resize(image, size[::-1], interpolation=interpolation), np.float32)
    return _clipped(resized) if interpolation == cv2.INTER_CUBIC else resized


def _clipped(image: Pixels) -> Pixels:
    return np.clip(image, 0, 255, out=image)
