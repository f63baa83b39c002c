"""The pictures that crops are cut from: a few held in memory, or a big set read as it is needed."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from tudsr.data.crops import reduced_to
from tudsr.data.index import INDEX_SUFFIX, load_index
from tudsr.data.order import epoch_order
from tudsr.data.photos import decode_photo, open_photo
from tudsr.data.skipped import SkipLog
from tudsr.errors import DataError
from tudsr.profile import DataSettings

# The largest picture that is decoded, as in tudsr.images.read.
_MAX_PIXELS = 100_000_000
_MODES = ("RGB", "L")


class Pictures(Protocol):
    """Whatever hands out the picture of a sample."""

    def picture(self, index: int, rng: np.random.Generator) -> Image.Image:
        """The RGB picture of sample ``index``: a function of the index and the draws alone."""
        ...

    def figures(self) -> dict[str, float]:
        """What is worth recording about the set."""
        ...


def open_pictures(
    photos: Sequence[Path], crop_px: int, seed: int, settings: DataSettings
) -> Pictures:
    """Hold the photographs in memory, or open the big set whose index file is given instead.

    Raises:
        DataError: no photographs, or one that cannot be read or is smaller than a crop.
    """
    if len(photos) == 1 and photos[0].name.endswith(INDEX_SUFFIX):
        return StoredPictures(photos[0], crop_px, seed, settings)
    return HeldPictures(photos, crop_px)


class HeldPictures:
    """A few photographs in memory, drawn with replacement."""

    def __init__(self, paths: Sequence[Path], crop_px: int) -> None:
        self.photos = [_load(path, crop_px) for path in paths]
        if not self.photos:
            raise DataError("no training photographs: is data/train empty? Run `dvc pull`")

    def picture(self, index: int, rng: np.random.Generator) -> Image.Image:
        """Any of them, by the next draw."""
        return self.photos[rng.integers(len(self.photos))]

    def figures(self) -> dict[str, float]:
        """Nothing: all are used."""
        return {}


class StoredPictures:
    """A big set, each picture once an epoch in a shuffled order, read when its turn comes.

    Sample ``i`` gets the picture at place ``i mod N`` of epoch ``i div N``, whatever worker or rank
    asks. Where that one cannot be used, the next in the order that can takes its place, and the
    log beside the index names it. Those of ``crops.resize_sources`` come reduced to a crop's side.
    """

    def __init__(self, path: Path, crop_px: int, seed: int, settings: DataSettings) -> None:
        self.index = load_index(path)
        self.crop_px, self.seed = crop_px, seed
        log = path.with_name(path.name.replace(INDEX_SUFFIX, f"-{crop_px}px.skipped.jsonl"))
        self.log = SkipLog(log, len(self.index), settings.max_bad_share)
        patterns = settings.crops.resize_sources
        self.resized = [_matches(source, patterns) for source in self.index.sources]
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def picture(self, index: int, rng: np.random.Generator) -> Image.Image:
        """The picture of a sample; ``rng`` is not drawn from.

        Raises:
            DataError: a file or shard that cannot be read at all, or too many unusable pictures.
        """
        count = len(self.index)
        for place in range(index, index + count):
            stored = self.index[self.number(place)]
            data = stored.read()
            try:
                picture = _usable(data, stored.label, self.crop_px)
                return reduced_to(picture, self.crop_px) if self.resized[stored.source] else picture
            except DataError as error:
                reason = str(error).removeprefix(f"{stored.label} ")
            self.log.add(stored.label, reason)
        raise DataError(f"none of the {count} pictures can be used: see {self.log.path}")

    def number(self, place: int) -> int:
        """The picture's number in the index at a place of the endless order."""
        epoch, position = divmod(place, len(self.index))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, epoch_order(len(self.index), self.seed, epoch)
        return int(self._order[position])

    def figures(self) -> dict[str, float]:
        """Size of the set, and how many of its pictures were found unusable so far."""
        return {"pictures": len(self.index), "pictures_skipped": len(self.log.read())}


def _matches(source: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(source.lower(), pattern.lower()) for pattern in patterns)


def _usable(data: bytes, label: str, crop_px: int) -> Image.Image:
    """Decode, and mirror at the edges what is smaller than a crop (by up to half of it)."""
    _check_size(data, label)
    image = decode_photo(io.BytesIO(data), label)
    if image.mode not in _MODES:
        raise DataError(f"{label} has mode {image.mode}: convert it to 8-bit RGB")
    if 2 * min(image.size) < crop_px:
        raise DataError(f"{label} is {image.width} x {image.height}: less than half of {crop_px}")
    return _mirrored(image.convert("RGB"), crop_px)


def _check_size(data: bytes, label: str) -> None:
    """Refuse by the header what would not fit in memory; other faults are found by decoding."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
    except Exception:  # decoding says what is wrong, in one place
        return
    if width * height > _MAX_PIXELS:
        raise DataError(f"{label} is {width} x {height}: over {_MAX_PIXELS:,} pixels")


def _mirrored(image: Image.Image, crop_px: int) -> Image.Image:
    if min(image.size) >= crop_px:
        return image
    right, below = max(0, crop_px - image.width), max(0, crop_px - image.height)
    return Image.fromarray(np.pad(np.asarray(image), ((0, below), (0, right), (0, 0)), "reflect"))


def _load(path: Path, crop_px: int) -> Image.Image:
    photo = open_photo(path).convert("RGB")
    if min(photo.size) < crop_px:
        raise DataError(f"{path} is {photo.width} x {photo.height}: a crop needs {crop_px} pixels")
    return photo
