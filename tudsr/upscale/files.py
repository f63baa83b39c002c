"""Enlarging files: one picture, or a folder of them that may be interrupted and run again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tudsr.errors import ImageError, SettingsError
from tudsr.images.read import read_image
from tudsr.images.write import check_fits, format_of, write_image
from tudsr.upscale.chosen import ChosenModel
from tudsr.upscale.upscaler import Note, Progress

_READABLE = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".gif", ".bmp")
_UNWRITTEN = (".gif", ".bmp")
_SOFTWARE = 0x0131

Sizes = tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class Job:
    """One picture to enlarge: where it is, where the result goes."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        sizes: (height, width) before and after; None where nothing was made.
        seconds: it took.
        skipped: the same result was there already.
        error: why it failed.
    """

    job: Job
    sizes: Sizes | None = None
    seconds: float = 0.0
    skipped: bool = False
    error: str | None = None


def plan_jobs(source: Path, target: Path) -> list[Job]:
    """The jobs of a file, or of a folder with its sub-folders, in a fixed order.

    A picture keeps its name; GIF and BMP, which are not written, get ``.png`` added.

    Raises:
        ImageError: ``not_found``, ``empty``: a folder without pictures, or ``not_writable``.
        SettingsError: the result would replace what it is made from.
    """
    if source.is_dir():
        return _folder_jobs(source, target)
    if target.is_dir():
        target = target / _result_name(source)
    format_of(target)
    if target.exists() and source.exists() and target.samefile(source):
        raise SettingsError(f"{target} is the input itself: give another name for the result")
    return [Job(source, target)]


def upscale_one(
    job: Job, chosen: ChosenModel, progress: Progress | None = None, note: Note | None = None
) -> Outcome:
    """Read, enlarge and write one picture; the model is opened after the input is accepted.

    Raises:
        ImageError: the picture cannot be read, or the result cannot be written.
        SettingsError: the wanted size cannot be made of this picture.
    """
    start = time.monotonic()
    picture = read_image(job.source)
    size = chosen.target.size(*picture.size)
    transparent = picture.alpha is not None and bool(picture.alpha.min() < 1)
    check_fits(format_of(job.target), *size, transparent=transparent)
    try:
        result = chosen.upscaler().upscale_picture(
            picture, chosen.target, fidelity=chosen.fidelity, progress=progress, note=note
        )
        write_image(result.signed(chosen.signature()), job.target)
    except MemoryError:
        raise ImageError(
            "too_large",
            f"{size[1]} x {size[0]} pixels do not fit in memory: lower the scale or cut "
            f"{job.source} in parts",
        ) from None
    return Outcome(job, (picture.size, result.size), time.monotonic() - start)


def upscale_folder(
    jobs: list[Job], chosen: ChosenModel, progress: Progress | None = None, note: Note | None = None
) -> Iterator[Outcome]:
    """Each job in turn; results of the same model and scale are skipped, failures are reported.

    A file at a target's place that was not made so is left alone: that job fails.
    """
    for job in jobs:
        try:
            if not job.target.exists():
                yield upscale_one(job, chosen, progress, note)
            elif _made_by(job.target) == chosen.signature():
                yield Outcome(job, skipped=True)
            else:
                other = "another model, scale or program made it"
                yield Outcome(job, error=f"{job.target} exists and {other}: remove it first")
        except (ImageError, SettingsError) as error:
            yield Outcome(job, error=str(error))


def _folder_jobs(source: Path, target: Path) -> list[Job]:
    if target.exists() and not target.is_dir():
        raise ImageError(
            "not_writable", f"{target} is a file: give a folder for a folder's results"
        )
    if target.resolve() == source.resolve():
        raise SettingsError(f"{target} is the input itself: give another folder for the results")
    found = [p for p in sorted(source.rglob("*")) if _is_picture(p, source, target)]
    if not found:
        raise ImageError("empty", f"{source} has no pictures: {', '.join(_READABLE)}")
    return [Job(p, (target / p.relative_to(source)).with_name(_result_name(p))) for p in found]


def _is_picture(path: Path, source: Path, target: Path) -> bool:
    """By name; hidden files and results inside the input folder do not count."""
    parts = path.relative_to(source).parts
    hidden = any(part.startswith(".") for part in parts)
    of_ours = path.resolve().is_relative_to(target.resolve())
    return path.suffix.lower() in _READABLE and path.is_file() and not hidden and not of_ours


def _result_name(source: Path) -> str:
    return source.name + (".png" if source.suffix.lower() in _UNWRITTEN else "")


def _made_by(path: Path) -> str | None:
    """EXIF's Software, read from the header."""
    try:
        with Image.open(path) as image:
            return image.getexif().get(_SOFTWARE)
    except (OSError, SyntaxError, ValueError):
        return None
