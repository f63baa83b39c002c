"""Fixed pairs for validation and test: LR images on disk, HR as coordinates in a photograph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError

from tudsr.data.degrade import degrade, sample_rng
from tudsr.data.measures import luma_of, sharpness
from tudsr.data.photos import Photograph, find_photograph, read_photo, sha256_of
from tudsr.errors import DataError
from tudsr.images.atomic import write_json, write_text, writing_dir
from tudsr.profile import PairSettings

PAIRS = "pairs.json"
RECIPE = "recipe.json"
_CANDIDATES = 8


class Pair(BaseModel):
    """One LR image and the HR crop that it was made from.

    Attributes:
        split: ``val`` or ``test``.
        scale: total ratio between the two.
        photo: key of the photograph, such as ``test/bluebird.webp``.
        photo_sha256: of the photograph's file when the pair was made.
        index: number of the crop within its photograph.
        x: left edge of the HR crop, pixels.
        y: upper edge of the HR crop, pixels.
        size_px: side of the HR crop.
        lr: the LR image, relative to the folder of pairs.
        lr_sha256: of that file.
        preset: degradation that made it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: str
    scale: int
    photo: str
    photo_sha256: str
    index: int
    x: int
    y: int
    size_px: int
    lr: str
    lr_sha256: str
    preset: str


class PairSet(BaseModel):
    """All pairs of a folder, by split, photograph, crop and scale."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int
    pairs: tuple[Pair, ...]

    def select(self, split: str, scale: int) -> tuple[Pair, ...]:
        """The pairs of one split at one scale."""
        return tuple(p for p in self.pairs if p.split == split and p.scale == scale)


def make_pairs(
    photos: Sequence[Photograph], settings: PairSettings, seed: int, out: Path
) -> PairSet:
    """Cut, degrade and store the pairs of the val and test photographs among ``photos``.

    The crops are the same at each scale, and each pair depends on (seed, photograph, crop, scale)
    alone. The folder ``out`` is replaced as a whole: LR images as 8-bit PNG under
    ``{split}/x{scale}/``, pairs.json and recipe.json.

    Raises:
        DataError: no such photographs, or one that is smaller than a crop or cannot be read.
    """
    chosen = [photo for photo in photos if photo.split in ("val", "test")]
    if not chosen:
        raise DataError("no photographs in val or test to make pairs of: run `tudsr data validate`")
    stems = _unique_stems(chosen)
    with writing_dir(Path(out)) as folder:
        pairs = [
            pair
            for photo in chosen
            for pair in _pairs_of(photo, stems[photo.file], settings, seed, folder)
        ]
        made = PairSet(seed=seed, pairs=tuple(pairs))
        write_text(folder / PAIRS, made.model_dump_json(indent=2) + "\n")
        write_json(folder / RECIPE, _recipe(settings, seed))
    return made


def load_pairs(folder: Path) -> PairSet:
    """Read the list of pairs in a folder that `make_pairs` wrote.

    Raises:
        DataError: there is none, or it is not readable.
    """
    path = Path(folder) / PAIRS
    if not path.is_file():
        raise DataError(f"no pairs {path}: run `tudsr data pairs`")
    try:
        return PairSet.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not readable: {error}. Run `tudsr data pairs`") from None


def read_pair(
    pair: Pair, folder: Path, data_root: Path
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The pair's images: LR (size/scale, size/scale, 3) and HR (size, size, 3), in [0, 1].

    Raises:
        DataError: a file that is missing or is not the one the pair was made from.
    """
    lr_path = Path(folder) / pair.lr
    if not lr_path.is_file():
        raise DataError(f"no LR image {lr_path}: run `tudsr data pairs`")
    _check_hash(lr_path, pair.lr_sha256)
    photo = find_photograph(data_root, pair.photo)
    _check_hash(photo, pair.photo_sha256)
    return read_photo(lr_path), _crop(read_photo(photo), pair.x, pair.y, pair.size_px)


def crop_positions(
    luma: NDArray[np.float32], size_px: int, count: int, seed: int, photo: str
) -> list[tuple[int, int]]:
    """Left and upper edges of ``count`` crops: of 8 random candidates each, the sharpest.

    Candidates that do not overlap an earlier crop come first. Sharp places are where methods
    differ; a sky tells little.
    """
    chosen: list[tuple[int, int]] = []
    height, width = luma.shape
    for index in range(count):
        rng = sample_rng(seed, photo, index)
        xs = rng.integers(0, width - size_px + 1, _CANDIDATES)
        ys = rng.integers(0, height - size_px + 1, _CANDIDATES)
        candidates = [(int(x), int(y)) for x, y in zip(xs, ys, strict=True)]
        apart = [c for c in candidates if all(_are_apart(c, other, size_px) for other in chosen)]
        chosen.append(max(apart or candidates, key=lambda c: _sharpness_at(luma, c, size_px)))
    return chosen


def _pairs_of(
    photo: Photograph, stem: str, settings: PairSettings, seed: int, folder: Path
) -> list[Pair]:
    pixels, size = read_photo(photo.path), settings.hr_crop_px
    height, width = pixels.shape[:2]
    if min(height, width) < size:
        raise DataError(
            f"{photo.file} is {width} x {height}, smaller than a crop of {size}: "
            "raise data.min_side_px or lower pairs.hr_crop_px in the profile"
        )
    luma = luma_of(np.rint(pixels * 255).astype(np.uint8))
    positions = crop_positions(luma, size, settings.crops_per_photo, seed, photo.file)
    preset = settings.val_preset if photo.split == "val" else settings.test_preset
    pairs: list[Pair] = []
    for index, (x, y) in enumerate(positions):
        for scale in settings.scales:
            rng = sample_rng(seed, f"{photo.file}@x{scale}", index)
            lr = degrade(_crop(pixels, x, y, size), scale, preset, rng)
            name = f"{photo.split}/x{scale}/{stem}_{index}.png"
            pairs.append(
                Pair(
                    split=photo.split,
                    scale=scale,
                    photo=photo.file,
                    photo_sha256=photo.sha256,
                    index=index,
                    x=x,
                    y=y,
                    size_px=size,
                    lr=name,
                    lr_sha256=_write_png(folder / name, lr),
                    preset=preset,
                )
            )
    return pairs


def _write_png(path: Path, pixels: NDArray[np.float32]) -> str:
    """Store as 8-bit PNG and return the file's SHA-256; the folder is made durable as a whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint(pixels * 255).astype(np.uint8)).save(path)
    return sha256_of(path)


def _unique_stems(photos: Sequence[Photograph]) -> dict[str, str]:
    """A file stem for each photograph; with its extension where two would otherwise share one."""
    stems = {photo.file: photo.name.rsplit(".", 1)[0].replace("/", "__") for photo in photos}
    taken = Counter((photo.split, stems[photo.file]) for photo in photos)
    return {
        photo.file: stems[photo.file]
        if taken[photo.split, stems[photo.file]] == 1
        else photo.name.replace("/", "__")
        for photo in photos
    }


def _recipe(settings: PairSettings, seed: int) -> dict[str, object]:
    packages = ("tudsr", "numpy", "scipy", "pillow", "opencv-python-headless")
    return {
        "seed": seed,
        "settings": settings.model_dump(mode="json"),
        "versions": {name: version(name) for name in packages},
    }


def _check_hash(path: Path, sha256: str) -> None:
    found = sha256_of(path)
    if found != sha256:
        raise DataError(
            f"{path} is not the file its pair was made from (SHA-256 {found[:12]}, expected "
            f"{sha256[:12]}): run `dvc checkout`, or make the pairs again with `tudsr data pairs`"
        )


def _crop(pixels: NDArray[np.float32], x: int, y: int, size_px: int) -> NDArray[np.float32]:
    return np.ascontiguousarray(pixels[y : y + size_px, x : x + size_px])


def _are_apart(a: tuple[int, int], b: tuple[int, int], size_px: int) -> bool:
    return abs(a[0] - b[0]) >= size_px or abs(a[1] - b[1]) >= size_px


def _sharpness_at(luma: NDArray[np.float32], corner: tuple[int, int], size_px: int) -> float:
    return sharpness(_crop(luma, *corner, size_px))
