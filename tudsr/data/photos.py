"""The photographs: a folder with train/, val/ and test/, and a manifest of authors and licences."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from tudsr.errors import DataError

SPLITS = ("train", "val", "test")
MANIFEST = "manifest.csv"
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Photograph:
    """One file of the data set and what its manifest says about it.

    Attributes:
        split: ``train``, ``val`` or ``test``.
        name: file name inside the split's folder, with forward slashes.
        path: where the file is.
        author: from the manifest, else ``unknown``.
        licence: from the manifest, else ``unknown``.
        sha256: of the file as it is now.
        manifest_sha256: as the manifest has it; empty where it says nothing.
    """

    split: str
    name: str
    path: Path
    author: str
    licence: str
    sha256: str
    manifest_sha256: str = ""

    @property
    def file(self) -> str:
        """Split and name in one, such as ``train/horse.webp``: the photograph's key everywhere."""
        return f"{self.split}/{self.name}"


def list_photographs(root: Path, splits: Sequence[str] = SPLITS) -> list[Photograph]:
    """Every file in the three splits, by split and name. Hidden files are not photographs.

    A folder without manifest.csv is fine: author and licence are then ``unknown``.

    Raises:
        DataError: no folder, a split that is missing or empty, or an unreadable manifest.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"no data folder {root}: run `dvc pull`, or set data.root in the profile")
    rows = _read_manifest(root / MANIFEST)
    return [
        _photograph(split, path, root, rows) for split in splits for path in _files_in(root / split)
    ]


def find_photograph(root: Path, file: str) -> Path:
    """The path of a photograph by its key, such as ``test/bluebird.webp``.

    Raises:
        DataError: there is no such file.
    """
    path = Path(root) / file
    if not path.is_file():
        raise DataError(f"no photograph {file} in {root}: run `dvc pull`, or make the pairs again")
    return path


def open_photo(path: Path) -> Image.Image:
    """Decode a photograph fully, upright, in the mode it is stored in.

    Raises:
        DataError: not an image, animated, truncated or otherwise damaged, or too large to decode.
    """
    return decode_photo(path, str(path))


def decode_photo(source: Path | BinaryIO, name: str) -> Image.Image:
    """The same from a file or a stream; ``name`` is what errors call it."""
    try:
        with Image.open(source) as image:
            frames = getattr(image, "n_frames", 1)
            if frames > 1:
                raise DataError(f"{name} is animated: {frames} frames; give a single picture")
            image.load()
            return ImageOps.exif_transpose(image)
    except UnidentifiedImageError:
        raise DataError(f"{name} is not an image in a known format") from None
    except Image.DecompressionBombError as error:
        raise DataError(f"{name} is too large: {error}") from None
    except DataError:
        raise
    except Exception as error:  # a damaged file makes Pillow's plugins raise almost anything
        raise DataError(f"{name} is damaged: {error}") from None


def read_photo(path: Path) -> NDArray[np.float32]:
    """Decode a photograph to (H, W, 3) float32 RGB in [0, 1]; grey becomes RGB.

    Raises:
        DataError: what `open_photo` refuses, or a mode other than RGB or grey.
    """
    image = open_photo(path)
    if image.mode not in ("RGB", "L"):
        raise DataError(f"{path} has mode {image.mode}: convert it to 8-bit RGB")
    return np.asarray(image.convert("RGB"), np.float32) / np.float32(255)


def data_version(root: Path) -> str:
    """The folder's version as DVC computes it, from the files as they are now.

    It equals the hash in data.dvc as long as the folder is the recorded one and changes with any
    byte or name. DVC's rule: the MD5 of the JSON list of {md5, relpath}, sorted by relpath, then
    ``.dir``.

    Raises:
        DataError: no such folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"no data folder {root}: run `dvc pull`, or set data.root in the profile")
    files = {p.relative_to(root).as_posix(): p for p in root.rglob("*") if p.is_file()}
    listing = [{"md5": _hash_file(files[name], "md5"), "relpath": name} for name in sorted(files)]
    text = json.dumps(listing, sort_keys=True)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() + ".dir"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return _hash_file(path, "sha256")


def _photograph(split: str, path: Path, root: Path, rows: dict[str, dict[str, str]]) -> Photograph:
    name = path.relative_to(root / split).as_posix()
    row = rows.get(f"{split}/{name}", {})
    return Photograph(
        split,
        name,
        path,
        row.get("author") or UNKNOWN,
        row.get("licence") or UNKNOWN,
        sha256_of(path),
        row.get("sha256") or "",
    )


def _files_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(
            f"{folder.parent} has no folder {folder.name}/: photographs go to "
            + ", ".join(f"{split}/" for split in SPLITS)
            + "; `dvc pull` fetches those that come with the repository"
        )
    found = [p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")]
    if not found:
        raise DataError(f"{folder} is empty: put photographs there, or run `dvc pull`")
    return sorted(found, key=lambda p: p.relative_to(folder).as_posix())


def _read_manifest(path: Path) -> dict[str, dict[str, str]]:
    """Rows by file; empty where there is no manifest."""
    if not path.is_file():
        return {}
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a UTF-8 CSV table: {error}") from None
    if rows and "file" not in rows[0]:
        raise DataError(f"{path} has no column `file`: it has {', '.join(map(str, rows[0]))}")
    return {row["file"]: row for row in rows}


def _hash_file(path: Path, algorithm: str) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, algorithm).hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
