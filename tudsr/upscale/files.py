"""Enlarging files: one picture, or a folder of them that may be interrupted and run again."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tudsr.errors import ImageError, SettingsError
from tudsr.images.atomic import remove_leftovers
from tudsr.images.read import open_image
from tudsr.images.write import check_fits, format_of, is_see_through, write_rows
from tudsr.upscale.chosen import ChosenModel
from tudsr.upscale.manifest import Entry, Manifest, stamp
from tudsr.upscale.memory import MAX_INPUT_PX, beside_bands, check_result
from tudsr.upscale.upscaler import Note, Progress

_READABLE = (
    *(".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".avif"),
    *(_UNWRITTEN := (".gif", ".bmp", ".heic", ".heif")),
)
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

    A picture keeps its name; GIF, BMP and HEIC, which are not written, get ``.png`` added.

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
    start, budget = time.monotonic(), chosen.memory_bytes
    with open_image(job.source, MAX_INPUT_PX, beside_bands(budget)) as picture:
        (height, width), fmt = chosen.target.size(*picture.size), format_of(job.target)
        check_fits(fmt, height, width, transparent=is_see_through(picture))
        check_result(budget, (height, width), fmt)
        like = picture.stripped() if chosen.strip else picture
        rows = chosen.upscaler().upscale_rows(
            picture, chosen.target, fidelity=chosen.fidelity, progress=progress, note=note
        )
        with closing(rows):
            write_rows(rows, (height, width), like.signed(chosen.signature()), job.target)
    return Outcome(job, (picture.size, (height, width)), time.monotonic() - start)


def attempt(
    job: Job, chosen: ChosenModel, progress: Progress | None = None, note: Note | None = None
) -> Outcome:
    """As `upscale_one`, but what is there of the same model is skipped, and a failure is told.

    A file at the target's place that was not made so is left alone: the job fails.
    """
    try:
        if not job.target.exists():
            return upscale_one(job, chosen, progress, note)
        if _made_by(job.target) == chosen.signature():
            return Outcome(job, skipped=True)
    except (ImageError, SettingsError) as error:
        return Outcome(job, error=str(error))
    other = "another model, another program or other settings made it"
    return Outcome(job, error=f"{job.target} exists and {other}: remove it first")


class FolderRun:
    """A folder's pictures with their manifest: interrupted and run again, it goes on.

    What a killed process left half written is removed. A source that has changed since its result
    was made is made anew.

    Raises:
        ImageError, SettingsError: as `plan_jobs`.
    """

    def __init__(self, source: Path, target: Path, chosen: ChosenModel) -> None:
        self.source, self.target, self.chosen = source, target, chosen
        self.jobs = plan_jobs(source, target)
        self.manifest = Manifest(target)
        self.clean_up()

    def clean_up(self) -> None:
        """Remove half-written files of ours."""
        for folder in {job.target.parent for job in self.jobs}:
            if folder.is_dir():
                remove_leftovers(folder)

    def make(self, job: Job, progress: Progress | None = None, note: Note | None = None) -> Outcome:
        """Enlarge one of the jobs, or skip it, and note what became of it."""
        name = job.source.relative_to(self.source).as_posix()
        try:
            now = stamp(job.source)
        except OSError as error:  # it went, or its disk did, since the folder was looked through
            return Outcome(job, error=f"{job.source}: {error.strerror}")
        known = self.manifest.entries.get(name)
        if known is not None and known.error is None and known.stamp != now:
            job.target.unlink(missing_ok=True)
        outcome = attempt(job, self.chosen, progress, note)
        # A result without a line is one whose run was killed just then.
        if not outcome.skipped or known is None or known.error is not None:
            made_as = job.target.relative_to(self.target).as_posix()
            signature = "" if outcome.error else self.chosen.signature()
            seconds = round(outcome.seconds, 3)
            self.manifest.add(Entry(name, made_as, now, signature, seconds, outcome.error))
        return outcome


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
