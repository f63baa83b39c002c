"""The one way to enlarge a picture: pixels in, pixels out, a runtime for each tile."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tudsr.errors import ImageError, SettingsError
from tudsr.images.canvas import Canvas, bands
from tudsr.images.picture import Picture, Windows
from tudsr.images.resize import bicubic_rows
from tudsr.profile import UpscaleSettings
from tudsr.upscale.cascade import Pass, given_passes
from tudsr.upscale.damage import looks_damaged
from tudsr.upscale.finish import Finish
from tudsr.upscale.interpolate import enlarge_window
from tudsr.upscale.invisible import filled
from tudsr.upscale.runtime import TileRuntime, restore_tile
from tudsr.upscale.side_by_side import in_order
from tudsr.upscale.target import Target
from tudsr.upscale.tiles import Tile, blend, check_tiles, pad_tile
from tudsr.upscale.way import Way, longest_way, passes_of, way_of

Floats = NDArray[np.float32]
Progress = Callable[[int, int], None]
Note = Callable[[str], None]
Stages = Sequence[tuple[float, int]]


class Upscaler:
    """Enlarges pictures of any size; what is held beside the input does not grow with the result.

    Args:
        runtime: restores tiles.
        settings: tile, overlap, passes and colour correction.
        folder: for temporary files; see `Canvas`.

    Raises:
        SettingsError: a tile or window that the runtime cannot take, or an overlap that leaves
            nothing of it.
    """

    def __init__(
        self, runtime: TileRuntime, settings: UpscaleSettings, folder: Path | None = None
    ) -> None:
        check_tiles(settings, runtime.size_multiple)
        self.runtime, self.settings, self.folder = runtime, settings, folder

    def upscale(
        self,
        pixels: Windows,
        target: float | Target,
        stages: Stages | None = None,
        *,
        fidelity: float = 1.0,
        progress: Progress | None = None,
        note: Note | None = None,
    ) -> Floats:
        """Enlarge (H, W, 3) in [0, 1] to the target's size, in [0, 1].

        Args:
            pixels: float32, finite.
            target: a ratio, 1.5 to 16, or what `Target` can say.
            stages: (ratio, stage) pairs instead of those of the ratio, for ablations.
            fidelity: 0, most faithful, to 1, most generated (docs/upscaling.md).
            progress: called with (tiles done, tiles in all) after every tile, and again between
                parts of the correction. What it raises ends the work.
            note: called with a sentence when a tile had to be made again in full precision.

        Raises:
            SettingsError: a target, stages or fidelity that cannot be used.
            ImageError: not three channels, values that are not finite, or no room on the disk.
            ModelError: the model's result is not finite or has another shape.
        """
        job = self._job(pixels, target, stages, fidelity, progress, note)
        out = np.empty((*job.way.sizes[-1], 3), np.float32)
        for rows, band in self._rows(job):
            out[rows] = band
        return out

    def upscale_rows(
        self,
        picture: Picture[Any],
        target: float | Target,
        *,
        fidelity: float = 1.0,
        progress: Progress | None = None,
        note: Note | None = None,
    ) -> Generator[Floats]:
        """The enlarged picture from top to bottom, some rows at a time: (k, W, 3), or 4 with alpha.

        Transparency takes a bicubic path of its own, and a grey picture stays grey. See `upscale`;
        beside the picture, nothing that grows with it or with the result is held in memory.
        """
        alpha: Windows | None = picture.alpha
        with ExitStack() as held:
            pixels = picture.pixels
            if alpha is not None:
                pixels = held.enter_context(filled(pixels, alpha, self.folder))
            job = self._job(pixels, target, None, fidelity, progress, note)
            made = held.enter_context(closing(self._rows(job)))
            for rows, band in made:
                band = picture.untinted(band)
                if alpha is not None:
                    over = np.clip(bicubic_rows(alpha, *job.way.sizes[-1], rows), 0, 1)
                    band = np.concatenate([band, over[:, :, None]], axis=2)
                yield band

    def upscale_picture(
        self,
        picture: Picture,
        target: float | Target,
        *,
        fidelity: float = 1.0,
        progress: Progress | None = None,
        note: Note | None = None,
    ) -> Picture:
        """Enlarge a picture; depth, colour profile, metadata and transparency are kept.

        Raises as `upscale` does.
        """
        size = Target.of(target).size(*picture.size)
        whole = np.empty((*size, 3 if picture.alpha is None else 4), np.float32)
        top = 0
        for band in self.upscale_rows(
            picture, target, fidelity=fidelity, progress=progress, note=note
        ):
            whole[top : top + len(band)] = band
            top += len(band)
        alpha = whole[:, :, 3] if picture.alpha is not None else None
        return replace(picture, pixels=whole[:, :, :3], alpha=alpha)

    def count_tiles(self, height: int, width: int, target: float | Target) -> int:
        """The most tiles that a picture of this size takes, all stages together.

        Raises:
            SettingsError: a target that cannot be used.
        """
        size, multiple = (height, width), self.runtime.size_multiple
        return longest_way(size, Target.of(target), self.settings, multiple).tiles

    def _job(
        self,
        pixels: Windows,
        target: float | Target,
        stages: Stages | None,
        fidelity: float,
        progress: Progress | None,
        note: Note | None,
    ) -> _Job:
        _check_pixels(pixels)
        if not 0 <= fidelity <= 1:
            raise SettingsError(
                f"fidelity is {fidelity:g}: give 0 (most faithful) to 1 (most generated)"
            )
        goal, size = Target.of(target), (pixels.shape[0], pixels.shape[1])
        ratio = goal.ratio(*size)
        passes = self._passes(pixels, ratio) if stages is None else given_passes(stages, ratio)
        way = way_of(size, goal, self.settings, self.runtime.size_multiple, passes)
        return _Job(pixels, way, fidelity, progress, note)

    def _passes(self, pixels: Windows, ratio: float) -> tuple[Pass, ...]:
        how = self.settings
        asked = how.small_steps_if_damaged and ratio <= how.one_pass_to  # else it changes nothing
        return passes_of(ratio, how, damaged=asked and looks_damaged(pixels))

    def _rows(self, job: _Job) -> Generator[tuple[slice, Floats]]:
        """All passes, then the finished rows of the result in [0, 1]."""

        def finished(rows: slice) -> tuple[slice, Floats]:
            band = finish.apply(rows, made[rows])
            return rows, np.clip(band, 0, 1, out=band)

        made, size, count = self._cascade(job), job.way.sizes[-1], self.runtime.side_by_side
        finish = Finish(job.pixels, size, self.settings.colour, job.fidelity, self.folder, count)
        with closing(made), closing(finish):
            if finish.is_needed:
                for rows in bands(*size):
                    job.tell()
                    finish.look(rows, made[rows])
                finish.settle(job.tell)
            # Its threads read both, so it ends first.
            with closing(in_order(finished, bands(*size), count)) as parts:
                for part in parts:
                    job.tell()
                    yield part

    def _cascade(self, job: _Job) -> Canvas:
        """One stage over all tiles, then the next, so that an adapter is switched once."""
        current: Windows = job.pixels
        canvas: Canvas | None = None
        way = job.way
        for step, size, plan in zip(way.passes, way.sizes, way.plans, strict=True):
            made = Canvas(*size, self.folder)
            try:
                self._fill(made, current, step, plan, job)
            except BaseException:
                made.close()
                raise
            finally:
                if canvas is not None:
                    canvas.close()
            current = canvas = made
        if canvas is None:
            raise SettingsError("no stages: give at least one")
        return canvas

    def _fill(
        self, made: Canvas, image: Windows, step: Pass, plan: Sequence[Tile], job: _Job
    ) -> None:
        """Enlarge, restore and blend every tile of a pass; several are in the model at once."""
        count = min(self.runtime.side_by_side, len(plan))
        runtime = self.runtime if count == 1 else self.runtime.beside

        def restored(padded: Floats) -> tuple[Floats, bool]:
            return restore_tile(runtime, padded, step.stage)

        # Canvases are read and written on this thread alone, and blended in the plan's order, so
        # that a result's bytes do not depend on which tile was done first.
        enlarged = (self._enlarged(tile, image, made.size, step) for tile in plan)
        with closing(in_order(restored, enlarged, count)) as tiles:
            for tile, (pixels, again) in zip(plan, tiles, strict=True):
                if again and job.note is not None:
                    job.note(
                        f"a tile of stage {step.stage} was not finite and was made again in fp32"
                    )
                blend(made, pixels, tile)
                job.step()

    def _enlarged(self, tile: Tile, image: Windows, size: tuple[int, int], step: Pass) -> Floats:
        """What the model sees of a tile."""
        method = step.interpolation(self.settings.interpolation)
        # Bicubic overshoots at edges; training clips it too.
        part = enlarge_window(image, size, tile.area, method)
        return pad_tile(np.clip(part, 0, 1, out=part), tile)


@dataclass
class _Job:
    """One picture's way: what is to be done, and who is told."""

    pixels: Windows
    way: Way
    fidelity: float
    progress: Progress | None
    note: Note | None
    done: int = 0

    def step(self) -> None:
        """A tile is done."""
        self.done += 1
        self.tell()

    def tell(self) -> None:
        """How far it is; whoever is told may end the work here."""
        if self.progress is not None:
            self.progress(self.done, self.way.tiles)


def _check_pixels(pixels: Windows) -> None:
    if len(pixels.shape) != 3 or pixels.shape[2] != 3 or min(pixels.shape) < 1:
        raise ImageError(
            "unsupported_mode", f"pixels have shape {pixels.shape}: give (height, width, 3)"
        )
    if not all(np.isfinite(pixels[rows]).all() for rows in bands(pixels.shape[0], pixels.shape[1])):
        raise ImageError("unsupported_mode", "the picture has values that are not finite")
