"""The paper's test sets: their pictures in the published layout, and the scores of our results."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tudsr.errors import DataError
from tudsr.evaluate.metrics import psnr_y, ssim_y
from tudsr.evaluate.niqe import BLOCK_PX, niqe
from tudsr.images.read import read_image
from tudsr.upscale.chosen import ChosenModel
from tudsr.upscale.files import Job, Outcome, attempt

_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
# RealSR's and DRealSR's files say in their names which side of a pair they are.
_SIDE = re.compile(r"[_-](LR\d?|HR|GT|LQ|x[1248])(?=$|[_-])", re.IGNORECASE)


@dataclass(frozen=True)
class PublishedSet:
    """What a published test set consists of.

    Attributes:
        title: its name in the paper.
        pictures: how many there are.
        lr_px: side of the inputs; None where it varies.
        truth: whether there are originals four times as large.
        lr_folders: where the inputs lie, the first one that exists; "" is the folder itself.
    """

    title: str
    pictures: int
    lr_px: int | None
    truth: bool
    lr_folders: tuple[str, ...]


TEST_SETS = {
    "realsr": PublishedSet("RealSR", 100, 128, True, ("test_LR",)),
    "drealsr": PublishedSet("DRealSR", 93, 128, True, ("test_LR",)),
    "reallq250": PublishedSet("RealLQ250", 250, 256, False, ("lq", "LQ", "test_LR", "")),
    "reallr200": PublishedSet("RealLR200", 200, None, False, ("lq", "LR", "test_LR", "")),
}
TRUTH_FOLDER = "test_HR"
TRUTH_SCALE = 4


@dataclass(frozen=True)
class SetPicture:
    """An input of a test set and, where there is one, its original."""

    lr: Path
    hr: Path | None


def find_pictures(folder: Path, name: str, scale: int) -> list[SetPicture]:
    """The pictures of a test set in its published layout, by name.

    ``test_LR`` and ``test_HR`` for RealSR and DRealSR (originals count at x4 alone), ``lq`` or the
    folder itself for the others.

    Raises:
        DataError: no such folder, no pictures in it, or an input without its original.
    """
    test_set = TEST_SETS[name]
    inputs = _pictures_in(folder, test_set)
    if not (test_set.truth and scale == TRUTH_SCALE):
        return [SetPicture(path, None) for path in inputs]
    originals = _by_key(_listed(folder / TRUTH_FOLDER))
    pairs = _by_key(inputs)
    lone = sorted(pairs.keys() - originals.keys())
    if lone:
        raise DataError(
            f"{len(lone)} inputs of {folder} have no original in {TRUTH_FOLDER}, such as "
            f"{pairs[lone[0]].name}: both sides of a pair carry the same name"
        )
    return [SetPicture(path, originals[key]) for key, path in pairs.items()]


def enlarge_all(
    pictures: Sequence[SetPicture],
    chosen: ChosenModel,
    out: Path,
    report: Callable[[Outcome], None],
) -> list[Path]:
    """Enlarge every input to a PNG in ``out``; what is there of the same model is kept.

    Raises:
        DataError: a picture that cannot be enlarged: a test set is scored whole or not at all.
    """
    jobs = [Job(picture.lr, out / f"{picture.lr.stem}.png") for picture in pictures]
    failed: list[str] = []
    for job in jobs:
        outcome = attempt(job, chosen)
        report(outcome)
        if outcome.error is not None:
            failed.append(f"{outcome.job.source}: {outcome.error}")
    if failed:
        raise DataError(
            f"{len(failed)} of {len(jobs)} pictures could not be enlarged, and a test set is "
            f"scored whole or not at all. The first: {failed[0]}"
        )
    return [job.target for job in jobs]


def own_scores(pictures: Sequence[SetPicture], results: Sequence[Path]) -> list[dict[str, float]]:
    """What needs no other package, a picture at a time: PSNR and SSIM of luma, and NIQE.

    Borders count, as in the papers this is held against. PSNR and SSIM need an original, NIQE a
    result of 96 pixels a side.

    Raises:
        DataError: an original that is not of the result's size.
    """
    return [_own_score(p, r) for p, r in zip(pictures, results, strict=True)]


def means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each metric that all rows have."""
    names = [n for n in dict.fromkeys(n for row in rows for n in row) if all(n in r for r in rows)]
    return {name: float(np.mean([row[name] for row in rows])) for name in names}


def departures(pictures: Sequence[SetPicture], name: str) -> list[str]:
    """Why a row is not comparable with the published ones: another number or size of pictures."""
    test_set = TEST_SETS[name]
    told: list[str] = []
    if len(pictures) != test_set.pictures:
        told.append(f"{len(pictures)} pictures, {test_set.title} has {test_set.pictures}")
    if test_set.lr_px is not None:
        sizes = {read_image(picture.lr).size for picture in pictures}
        odd = sorted(size for size in sizes if size != (test_set.lr_px, test_set.lr_px))
        if odd:
            told.append(
                f"inputs of {odd[0][1]} x {odd[0][0]} pixels, {test_set.title}'s have "
                f"{test_set.lr_px} x {test_set.lr_px}"
            )
    return told


def _own_score(picture: SetPicture, path: Path) -> dict[str, float]:
    result = read_image(path).pixels
    scores: dict[str, float] = {}
    if picture.hr is not None:
        original = read_image(picture.hr).pixels
        if original.shape != result.shape:
            height, width = original.shape[:2]
            raise DataError(
                f"{picture.hr} is {width} x {height}, the result of {picture.lr.name} is "
                f"{result.shape[1]} x {result.shape[0]}: originals are {TRUTH_SCALE} times as large"
            )
        scores = {"PSNR": psnr_y(result, original, 0), "SSIM": ssim_y(result, original, 0)}
    if min(result.shape[:2]) >= BLOCK_PX:
        scores["NIQE"] = niqe(result)
    return scores


def _pictures_in(folder: Path, test_set: PublishedSet) -> list[Path]:
    for name in test_set.lr_folders:
        if (folder / name).is_dir():
            return _listed(folder / name)
    wanted = " or ".join(name or "pictures in it" for name in test_set.lr_folders)
    raise DataError(f"{folder} is not {test_set.title} in its published layout: it needs {wanted}")


def _listed(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"no folder {folder}")
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in _PICTURES and p.is_file())
    if not found:
        raise DataError(f"no pictures in {folder}: it needs PNG, JPEG, WebP, TIFF or BMP files")
    return found


def _by_key(paths: Sequence[Path]) -> dict[str, Path]:
    """Files by what their names have in common with the other side's."""
    keyed = {_SIDE.sub("", path.stem).lower(): path for path in paths}
    if len(keyed) < len(paths):
        return {path.stem.lower(): path for path in paths}
    return keyed
