"""The second-order degradation chain that turns a high-resolution crop into a realistic input.

Real-ESRGAN (arXiv:2107.10833): blur, resize, noise and JPEG, twice; the last resize, a sinc filter
and the last JPEG come in either order. Ranges stand in tudsr.data.presets.
"""

from __future__ import annotations

import hashlib

import cv2
import numpy as np
from numpy.typing import NDArray

from tudsr.data.kernels import Kernel, draw_kernel, draw_sinc
from tudsr.data.presets import Pass, Preset, find_preset
from tudsr.errors import DataError
from tudsr.images.resize import bicubic_resize

Pixels = NDArray[np.float32]

# Plain kernels, not antialiased: the aliasing of careless software is part of what is imitated.
_INTERPOLATIONS = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


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
    image = _first_pass(np.ascontiguousarray(hr, np.float32), ranges.first, rng)
    image = _second_pass(image, (height, width), ranges.second, rng)
    return _finish(image, (height, width), ranges, rng)


def _reduced_size(hr: Pixels, scale: int) -> tuple[int, int]:
    height, width = hr.shape[:2]
    if scale < 1 or min(height, width) < 1 or height % scale or width % scale:
        raise DataError(
            f"a crop of {width} x {height} cannot be reduced by {scale}: "
            "both sides must be multiples of the scale"
        )
    return height // scale, width // scale


def _first_pass(image: Pixels, ranges: Pass, rng: np.random.Generator) -> Pixels:
    image = _maybe_blur(image, ranges, rng)
    image = _resize_by_factor(image, image.shape[:2], ranges, rng)
    image = add_noise(image, ranges, rng)
    return jpeg(image, round(rng.uniform(*ranges.jpeg)))


def _second_pass(
    image: Pixels, target: tuple[int, int], ranges: Pass, rng: np.random.Generator
) -> Pixels:
    image = _maybe_blur(image, ranges, rng)
    image = _resize_by_factor(image, target, ranges, rng)
    return add_noise(image, ranges, rng)


def _finish(
    image: Pixels, target: tuple[int, int], ranges: Preset, rng: np.random.Generator
) -> Pixels:
    """The last resize with its sinc filter, and the last JPEG, in random order."""
    quality = round(rng.uniform(*ranges.second.jpeg))
    interpolation = int(rng.choice(_INTERPOLATIONS))
    sinc = draw_sinc(rng) if rng.random() < ranges.final_sinc_prob else None
    if rng.random() < 0.5:
        return jpeg(_resize_and_filter(image, target, interpolation, sinc), quality)
    return _resize_and_filter(jpeg(image, quality), target, interpolation, sinc)


def _resize_and_filter(
    image: Pixels, target: tuple[int, int], interpolation: int, kernel: Kernel | None
) -> Pixels:
    image = _resize(image, target, interpolation)
    return np.clip(image if kernel is None else _filter(image, kernel), 0, 1)


def _maybe_blur(image: Pixels, ranges: Pass, rng: np.random.Generator) -> Pixels:
    kernel = draw_kernel(rng, ranges.sigma)
    return _filter(image, kernel) if rng.random() < ranges.blur_prob else image


def _resize_by_factor(
    image: Pixels, around: tuple[int, ...], ranges: Pass, rng: np.random.Generator
) -> Pixels:
    """Resize to a random factor of the size ``around``: up, down or that size itself."""
    low, high = ranges.resize
    direction = rng.choice(3, p=ranges.resize_probs)
    factor = (rng.uniform(1, high), rng.uniform(low, 1), 1.0)[direction]
    size = max(1, round(around[0] * factor)), max(1, round(around[1] * factor))
    return _resize(image, size, int(rng.choice(_INTERPOLATIONS)))


def add_noise(image: Pixels, ranges: Pass, rng: np.random.Generator) -> Pixels:
    """Add Gaussian or Poisson noise, the same in each channel (grey) or its own (colour)."""
    gaussian, grey = rng.random() < ranges.gaussian_prob, rng.random() < ranges.grey_prob
    if gaussian:
        sigma = rng.uniform(*ranges.noise) / 255
        shape = (*image.shape[:2], 1 if grey else 3)
        noise = rng.standard_normal(shape, np.float32) * np.float32(sigma)
    else:
        strength = np.float32(rng.uniform(*ranges.poisson))
        noise = strength * poisson_noise((image @ _LUMA)[:, :, None] if grey else image, rng)
    return np.clip(np.asarray(image + noise, np.float32), 0, 1)


def poisson_noise(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Zero-mean shot noise: Poisson counts minus their mean, in units of the image.

    The number of photons at white is the power of two that holds the image's 8-bit grey levels,
    so flat pictures get more noise, as in Real-ESRGAN.
    """
    levels = np.clip(np.rint(image * 255), 0, 255).astype(np.uint8)
    distinct = int(np.count_nonzero(np.bincount(levels.ravel(), minlength=256)))
    photons = 2.0 ** np.ceil(np.log2(max(distinct, 2)))
    expected = levels / 255.0
    return np.asarray(rng.poisson(expected * photons) / photons - expected, np.float32)


def jpeg(image: Pixels, quality: int) -> Pixels:
    """Through a real JPEG encoder and back: (H, W, 3) in [0, 1], chroma halved (4:2:0)."""
    pixels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    stored, data = cv2.imencode(
        ".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    if not stored:
        raise DataError(f"a crop of shape {image.shape} could not be stored as JPEG")
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), np.float32) / np.float32(255)


def _filter(image: Pixels, kernel: Kernel) -> Pixels:
    filtered = cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(filtered, np.float32)


def _resize(image: Pixels, size: tuple[int, int], interpolation: int) -> Pixels:
    if image.shape[:2] == size:
        return image
    resized = cv2.resize(image, (size[1], size[0]), interpolation=interpolation)
    return np.clip(np.asarray(resized, np.float32), 0, 1)
