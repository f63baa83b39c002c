"""Bicubic resizing of float images, the same everywhere in the project."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tudsr.errors import ImageError
from tudsr.images.picture import Windows


def bicubic_resize(image: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Resize with Keys' cubic kernel (a = -0.5), antialiased where a side shrinks.

    This is Pillow's bicubic in floating point: pixel centres at half-integers, the kernel
    stretched by the reduction factor, weights renormalised at the borders. The result overshoots
    [0, 1] at sharp edges; whoever stores it clips.

    Args:
        image: (H, W) or (H, W, C) of any range.
        height: rows of the result, at least 1.
        width: columns of the result, at least 1.

    Returns:
        (height, width) or (height, width, C), float32.

    Raises:
        ImageError: ``empty`` for a side of zero in the image or in the wanted size.
    """
    if min(height, width, *image.shape[:2]) < 1:
        raise ImageError(
            "empty", f"cannot resize {image.shape[:2]} to {(height, width)}: every side must be > 0"
        )
    pixels = np.asarray(image, np.float32)
    if pixels.shape[:2] == (height, width):
        return pixels.copy()
    if pixels.ndim == 2:
        return _resize_plane(pixels, height, width)
    planes = [_resize_plane(pixels[:, :, c], height, width) for c in range(pixels.shape[2])]
    return np.stack(planes, axis=2)


def bicubic_rows(image: Windows, height: int, width: int, rows: slice) -> NDArray[np.float32]:
    """``bicubic_resize(image, height, width)[rows]``, reading only the rows that these need.

    Args:
        image: (H, W) or (H, W, C).
        height: rows of the whole result.
        width: columns of the result.
        rows: which rows of it are wanted, with start and stop set.
    """
    ratio = image.shape[0] / height
    first, last, margin = rows.start * ratio, rows.stop * ratio, 2 * max(1, ratio) + 1
    top = max(0, math.floor(first - margin))
    slab = image[top : min(image.shape[0], math.ceil(last + margin))]
    box = (0, first - top, slab.shape[1], min(last - top, slab.shape[0]))
    planes = slab[:, :, None] if slab.ndim == 2 else slab
    out = resize_box(planes, rows.stop - rows.start, width, box, Image.Resampling.BICUBIC)
    return out[:, :, 0] if slab.ndim == 2 else out


def resize_box(
    image: NDArray[np.float32],
    height: int,
    width: int,
    box: tuple[float, float, float, float],
    kernel: Image.Resampling,
) -> NDArray[np.float32]:
    """A part of (H, W, C) to (height, width, C); the kernel sees what lies around the part too.

    Args:
        image: of any range.
        height: rows of the result.
        width: columns of the result.
        box: left, top, right and bottom of the part, fractions of pixels allowed.
        kernel: one of Pillow's, stretched where a side shrinks.
    """
    out = np.empty((height, width, image.shape[2]), np.float32)
    for c in range(image.shape[2]):
        plane = Image.fromarray(np.ascontiguousarray(image[:, :, c], np.float32))
        out[:, :, c] = np.asarray(plane.resize((width, height), kernel, box=box))
    return out


def _resize_plane(plane: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    source = Image.fromarray(np.ascontiguousarray(plane))
    return np.asarray(source.resize((width, height), Image.Resampling.BICUBIC), np.float32)
