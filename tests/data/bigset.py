"""Small stand-ins for big sets: pictures that are told apart by one colour, in folders and tars."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image


def picture(number: int, size: tuple[int, int] = (48, 40)) -> bytes:
    """A PNG of one colour, which is its number."""
    colour = (number % 256, number // 256, 7)
    return encoded(Image.new("RGB", size, colour))


def encoded(image: Image.Image, form: str = "PNG") -> bytes:
    stream = io.BytesIO()
    image.save(stream, form)
    return stream.getvalue()


def number_of(image: Image.Image) -> int:
    """The reverse of ``picture``."""
    red, green, _ = np.asarray(image.convert("RGB"))[0, 0]
    return int(red) + 256 * int(green)


def write_tar(path: Path, members: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def write_shards(root: Path, shards: int, each: int) -> Path:
    """``shards`` tars as WebDataset has them: a picture and a label to each key."""
    for shard in range(shards):
        members: dict[str, bytes] = {}
        for number in range(shard * each, (shard + 1) * each):
            members[f"{number:05d}.png"] = picture(number)
            members[f"{number:05d}.json"] = b"{}"
        write_tar(root / f"{shard:04d}.tar", members)
    return root
