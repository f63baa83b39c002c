"""The facts table: one row a photograph, measured and never judged."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track

from tudsr.data.index import StoredPicture
from tudsr.data.measures import blockiness, luma_of, noise_sigma, perceptual_hash, sharpness
from tudsr.data.photos import Photograph, decode_photo, open_photo
from tudsr.errors import DataError
from tudsr.images.atomic import write_text

# The modes that validation can accept; numbers in other modes would not be comparable.
_MEASURED_MODES = ("RGB", "L")


@dataclass(frozen=True)
class Facts:
    """What is known about one photograph; what could not be measured is None.

    Attributes:
        split: ``train``, ``val`` or ``test``.
        file: key of the photograph, such as ``train/horse.webp``.
        sha256: of the file.
        manifest: manifest.csv ``agrees`` with the file's hash, ``differs`` or is ``absent``.
        decodable: whether the file is one whole picture.
        reason: why it is not; empty otherwise.
        mode: Pillow's mode, such as ``RGB`` or ``CMYK``.
        width: pixels, upright.
        height: pixels, upright.
        short_side: the smaller of the two.
        long_side: the larger of the two.
        sharpness: variance of the Laplacian of luma, grey levels squared.
        noise: estimated standard deviation of noise, grey levels.
        blockiness: luma steps on the 8-pixel grid over those elsewhere.
        phash: 64-bit perceptual hash, 16 hexadecimal digits.
        nearest_within: most similar photograph of the same split.
        bits_within: bits in which its hash differs.
        nearest_across: most similar photograph of another split.
        bits_across: bits in which its hash differs.
    """

    split: str
    file: str
    sha256: str
    manifest: str
    decodable: bool
    reason: str
    mode: str | None = None
    width: int | None = None
    height: int | None = None
    short_side: int | None = None
    long_side: int | None = None
    sharpness: float | None = None
    noise: float | None = None
    blockiness: float | None = None
    phash: str | None = None
    nearest_within: str | None = None
    bits_within: int | None = None
    nearest_across: str | None = None
    bits_across: int | None = None


def gather_facts(
    photographs: Sequence[Photograph], sample: Sequence[StoredPicture] = ()
) -> list[Facts]:
    """Measure every photograph, and a big set's sample; rows keep their order.

    Pictures are decoded by a few threads (the work runs outside Python), one each at a time.
    """
    measured = _measured_together(photographs, sample)
    return [_with_neighbours(row, measured) for row in measured]


def _measured_together(
    photographs: Sequence[Photograph], sample: Sequence[StoredPicture]
) -> list[Facts]:
    console = Console(stderr=True)
    with ThreadPoolExecutor(max_workers=4) as pool:
        measured = track(
            chain(pool.map(measure, photographs), pool.map(measure_stored, sample)),
            description="facts",
            total=len(photographs) + len(sample),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        return list(measured)


def measure(photograph: Photograph) -> Facts:
    """Facts of one photograph, without its neighbours."""
    known = Facts(
        split=photograph.split,
        file=photograph.file,
        sha256=photograph.sha256,
        manifest=_compare_manifest(photograph),
        decodable=False,
        reason="",
    )
    try:
        image = open_photo(photograph.path)
    except DataError as error:
        return replace(known, reason=str(error).replace(str(photograph.path), photograph.file))
    return _measured(known, image)


def measure_stored(picture: StoredPicture) -> Facts:
    """Facts of one picture of a big set, as a training photograph.

    Raises:
        DataError: its file or shard cannot be read at all.
    """
    data, file = picture.read(), f"train/{picture.label}"
    sha256 = hashlib.sha256(data).hexdigest()
    known = Facts("train", file, sha256, manifest="absent", decodable=False, reason="")
    try:
        return _measured(known, decode_photo(io.BytesIO(data), file))
    except DataError as error:
        return replace(known, reason=str(error))


def _measured(known: Facts, image: Image.Image) -> Facts:
    known = replace(
        known,
        decodable=True,
        mode=image.mode,
        width=image.width,
        height=image.height,
        short_side=min(image.size),
        long_side=max(image.size),
    )
    if image.mode not in _MEASURED_MODES:
        return known
    luma = luma_of(np.asarray(image))
    return replace(
        known,
        sharpness=round(sharpness(luma), 3),
        noise=round(noise_sigma(luma), 3),
        blockiness=round(blockiness(luma), 4),
        phash=f"{perceptual_hash(luma):016x}",
    )


def hash_distance(a: str, b: str) -> int:
    """Number of bits in which two perceptual hashes differ, 0..64."""
    return (int(a, 16) ^ int(b, 16)).bit_count()


def write_facts(path: Path, rows: Sequence[Facts]) -> None:
    """Write the table as CSV, atomically; None becomes an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [f.name for f in fields(Facts)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    write_text(path, text.getvalue())


def read_facts(path: Path) -> list[Facts]:
    """Read a table that `write_facts` wrote.

    Raises:
        DataError: no such file, or columns that are not those of a facts table.
    """
    if not path.is_file():
        raise DataError(f"no facts table {path}: run `tudsr data facts`")
    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        if reader.fieldnames != [f.name for f in fields(Facts)]:
            raise DataError(f"{path} is not a facts table of this version: run `tudsr data facts`")
        return [_parse(row) for row in reader]


def _compare_manifest(photograph: Photograph) -> str:
    if not photograph.manifest_sha256:
        return "absent"
    return "agrees" if photograph.manifest_sha256 == photograph.sha256 else "differs"


def _with_neighbours(row: Facts, rows: Sequence[Facts]) -> Facts:
    if row.phash is None:
        return row
    others = [other for other in rows if other.phash is not None and other.file != row.file]
    within = _nearest(row.phash, [other for other in others if other.split == row.split])
    across = _nearest(row.phash, [other for other in others if other.split != row.split])
    return replace(
        row,
        nearest_within=within[0],
        bits_within=within[1],
        nearest_across=across[0],
        bits_across=across[1],
    )


def _nearest(phash: str, others: Sequence[Facts]) -> tuple[str | None, int | None]:
    distances = [(hash_distance(phash, other.phash or ""), other.file) for other in others]
    if not distances:
        return None, None
    bits, file = min(distances)
    return file, bits


_INTEGERS = ("width", "height", "short_side", "long_side", "bits_within", "bits_across")
_NUMBERS = ("sharpness", "noise", "blockiness")
_TEXTS = ("split", "file", "sha256", "manifest", "reason")


def _parse(row: dict[str, str]) -> Facts:
    values: dict[str, Any] = {}
    for name, text in row.items():
        if name == "decodable":
            values[name] = text == "True"
        elif name in _TEXTS:
            values[name] = text
        elif text == "":
            values[name] = None
        else:
            cast = int if name in _INTEGERS else float if name in _NUMBERS else str
            values[name] = cast(text)
    return Facts(**values)
