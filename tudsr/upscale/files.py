"""Enlarging files: one picture, or a folder of them that may be interrupted and run again."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tudsr.errors import ImageError, ModelError, SettingsError
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
    job: Job,
    chosen: ChosenModel,
    progress: Progress | None = None,
    note: Note | None = None,
    outdated: str | None = None,
) -> Outcome:
    """As `upscale_one`, but what is there of the same model is skipped, and a failure is told.

    A file at the target's place that was not made so is left alone: the job fails.

    Args:
        job: the picture.
        chosen: the model.
        progress: see `Upscaler`.
        note: see `Upscaler`.
        outdated: signature of a result of an older source, which is made anew.

    Raises:
        ModelError, SettingsError, OSError, MemoryError: the model cannot be opened.
    """
    try:
        if not job.target.exists():
            return upscale_one(job, chosen, progress, note)
        made_by, wanted = _made_by(job.target), chosen.signature()
        if outdated is not None and made_by in (outdated, wanted):
            return upscale_one(job, chosen, progress, note)
        if made_by == wanted:
            return Outcome(job, skipped=True)
    except (ImageError, SettingsError) as error:
        return Outcome(job, error=str(error))
    except (ModelError, MemoryError, OSError) as error:
        chosen.upscaler()  # where it cannot be opened, no picture can be made: that ends the run
        return Outcome(job, error=_sentence(error, job))
    other = "another model, another program or other settings made it"
    return Outcome(job, error=f"{job.target} exists and {other}: remove it first")


class FolderRun:
    """A folder's pictures with their manifest: interrupted and run again, it goes on.

    What a killed process left half written is removed. A source that has changed since its result
    was made is made anew; until that is done, the old result stays.

    Raises:
        ImageError, SettingsError: as `plan_jobs`.
    """

    def __init__(self, source: Path, target: Path, chosen: ChosenModel) -> None:
        self.source, self.target, self.chosen = source, target, chosen
        self.jobs = plan_jobs(source, target)
        self.first = {job.target: job for job in reversed(self.jobs)}
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
        if (first := self.first[job.target]) is not job:
            both = f"{first.source.name} and {job.source.name} both give {job.target.name}"
            outcome = Outcome(job, error=f"{both}: rename one of them")
        else:
            outcome = attempt(job, self.chosen, progress, note, self._outdated(known, now))
        # A result without a line is one whose run was killed just then.
        if not outcome.skipped or known is None or known.error is not None:
            self._note(name, outcome, now, known)
        return outcome

    def _outdated(self, known: Entry | None, now: tuple[int, int]) -> str | None:
        """Signature of a result at this place that is not of this source as it is now.

        A source that failed without one may find another source's there, which has been renamed.
        """
        if known is None:
            return None
        if known.error is not None and not known.signature:
            return self.chosen.signature()
        return known.signature if known.stamp != now else None

    def _note(self, name: str, outcome: Outcome, now: tuple[int, int], known: Entry | None) -> None:
        """A failure leaves the result that was there, so the line still says what that is of."""
        made_as = outcome.job.target.relative_to(self.target).as_posix()
        if outcome.error is None:
            made_of, signature = now, self.chosen.signature()
        else:
            made_of, signature = (known.stamp, known.signature) if known is not None else (now, "")
        seconds = round(outcome.seconds, 3)
        self.manifest.add(Entry(name, made_as, made_of, signature, seconds, outcome.error))


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


def _sentence(error: Exception, job: Job) -> str:
    if isinstance(error, MemoryError):
        return "the memory ran out: give a lower --memory, so that tiles shrink, or a smaller size"
    if isinstance(error, OSError):
        return f"{error.filename or job.source}: {error.strerror or error}"
    return str(error)
