"""A page that shows two pictures under one slider and needs nothing but itself."""

from __future__ import annotations

import base64
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from tudsr.errors import ImageError
from tudsr.images.atomic import write_text
from tudsr.images.picture import Picture
from tudsr.images.read import read_image
from tudsr.images.write import encode_image

# What every browser shows as it is; the rest is put in as PNG.
_SHOWN = {"JPEG": "jpeg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "AVIF": "avif"}
_SHAPE_TOLERANCE = 0.02


def write_comparison(before: Path, after: Path, out: Path) -> None:
    """Write the page; the smaller picture is stretched over the larger one.

    Raises:
        ImageError: a picture that cannot be read, ``not_writable``: the two differ in shape.
    """
    a, b = read_image(before), read_image(after)
    ratios = [picture.size[1] / picture.size[0] for picture in (a, b)]
    if abs(ratios[0] / ratios[1] - 1) > _SHAPE_TOLERANCE:
        raise ImageError(
            "not_writable",
            f"{before} is {_size(a)} and {after} {_size(b)}: they differ in shape, so one cannot "
            "lie over the other; give a picture and its enlargement",
        )
    page = Template(files("tudsr.upscale").joinpath("compare.html").read_text("utf-8"))
    height, width = max(a.size, b.size)
    text = page.substitute(
        before=_address(before, a),
        after=_address(after, b),
        before_name=escape(before.name),
        after_name=escape(after.name),
        before_size=_size(a),
        after_size=_size(b),
        width=width,
        height=height,
        ratio=round(width / height, 4),
    )
    write_text(out, text)


def _size(picture: Picture) -> str:
    return f"{picture.size[1]} x {picture.size[0]}"


def _address(path: Path, picture: Picture) -> str:
    """The picture in a data: address."""
    shown = _SHOWN.get(picture.format)
    data = path.read_bytes() if shown else encode_image(picture, "PNG")
    return f"data:image/{shown or 'png'};base64,{base64.b64encode(data).decode('ascii')}"
