"""What answers a request: the model in use, and a picture's way through it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from serving.batching import SharedRuntime, TileQueue, default_batch_px
from serving.metrics import metrics, size_class
from serving.parameters import Parameters
from serving.refusal import Refusal
from serving.scheduler import Scheduler, Speed
from serving.settings import ServeSettings
from serving.ticket import Cost, Ticket, cost_of
from tudsr.errors import ImageError, ModelError, RegistryError
from tudsr.images.picture import Picture
from tudsr.images.read import open_image, read_header
from tudsr.images.write import check_fits, encode_rows, is_see_through
from tudsr.profile import UpscaleSettings
from tudsr.release.bundle import BundleManifest, load_bundle
from tudsr.release.locate import Located, locate
from tudsr.upscale.chosen import signature
from tudsr.upscale.memory import (
    beside_bands,
    check_result,
    check_side,
    fitted,
    smaller_tile,
    tiles_at_once,
)
from tudsr.upscale.runtime import TileRuntime
from tudsr.upscale.side_by_side import in_order
from tudsr.upscale.upscaler import Upscaler

MEDIA_TYPES = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "WEBP": "image/webp",
    "TIFF": "image/tiff",
    "AVIF": "image/avif",
}
_WARM_UP_SCALE = 4
_LOG = logging.getLogger("tudsr.serving")


@dataclass(frozen=True)
class Model:
    """A bundle that is loaded and warm."""

    located: Located
    manifest: BundleManifest
    runtime: TileRuntime

    @property
    def version(self) -> str:
        """Its number in the registry, else how it was found."""
        return self.located.version or self.located.how

    @property
    def name(self) -> str:
        """Model and version, as shown to people."""
        version = f" version {self.located.version}" if self.located.version else ""
        return f"{self.manifest.model_name}{version} ({self.manifest.bundle_hash[:12]})"


@dataclass(frozen=True)
class Answer:
    """What is told of an enlarged picture.

    Attributes:
        size: (height, width) of the result, pixels.
        queue_s: waiting before the work, seconds.
        compute_s: decoding and enlarging.
        encode_s: encoding.
        remade_tiles: were not finite in half precision and were made again in fp32.
    """

    media_type: str
    model: str
    size: tuple[int, int]
    queue_s: float
    compute_s: float
    encode_s: float
    remade_tiles: int = 0


class _Timed:
    """Rows as they are made, and the seconds that making them took."""

    def __init__(self, rows: Generator[NDArray[np.float32]]) -> None:
        self.rows, self.seconds = rows, 0.0

    def __iter__(self) -> _Timed:
        return self

    def __next__(self) -> NDArray[np.float32]:
        start = time.monotonic()
        try:
            return next(self.rows)
        finally:
            self.seconds += time.monotonic() - start

    def close(self) -> None:
        """Let go of what making them held."""
        self.rows.close()


class Engine:
    """Holds the model and lets pictures through it.

    The model is looked up at once and loaded on a thread of its own: `model` raises until it is
    there. With no model named, the champion is followed: when the alias moves, the new one is
    loaded beside the old one, which answers until then and finishes what it began.

    Raises:
        ModelError, RegistryError: no model to serve.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self.settings, self.speed = settings, Speed()
        self.scheduler = Scheduler(settings, self.speed)
        self.tiles = TileQueue(settings.batch_px or default_batch_px(settings.device), self.speed)
        self._model: Model | None = None
        self._failed: str | None = None
        found = locate(settings.model)
        load_bundle(found.path, verify=False)
        threading.Thread(target=self._follow, args=(found,), name="model", daemon=True).start()

    @property
    def model(self) -> Model:
        """The model in use.

        Raises:
            Refusal: ``model_unavailable``: it is still being loaded, or cannot be.
        """
        if self._model is None:
            why = self._failed or "the model is being loaded: ask again in a few seconds"
            raise Refusal("model_unavailable", why, retry_after_s=5)
        return self._model

    @property
    def ready(self) -> bool:
        """Whether a picture sent now would be enlarged."""
        return self._model is not None and not self.scheduler.draining

    def plan(self, data: bytes, asked: Parameters) -> Cost:
        """What enlarging would take, from the header alone, and whether it may be asked for.

        Raises:
            ImageError: not a picture, over a limit, or a result that the format cannot hold.
            SettingsError: a size out of range.
        """
        header = read_header(data, self.settings.max_input_px)
        check_side(asked.target.size(*header.size))
        how = self._settings(self.model, asked)
        cost = cost_of(header.size, asked.target, how, self.model.runtime.size_multiple)
        if cost.result_px > self.settings.max_output_px:
            raise ImageError(
                "too_large",
                f"the result would have {cost.result_px:,} pixels, over the limit of "
                f"{self.settings.max_output_px:,}: ask for a smaller one or send a smaller picture",
            )
        return cost

    def enlarge(self, data: bytes, asked: Parameters, ticket: Ticket, out: BinaryIO) -> Answer:
        """Decode, enlarge, encode; called on one of the scheduler's threads.

        Args:
            data: the picture as it came.
            asked: what is wanted.
            ticket: counts progress, and ends the work.
            out: takes the encoded result; can seek.

        Raises:
            ImageError: a picture that cannot be read, or a result its format cannot hold.
            OSError: ``out`` is full.
            Refusal: the ticket was stopped.
        """
        model, start = self.model, time.monotonic()
        budget = self.settings.memory_bytes
        with open_image(data, self.settings.max_input_px, beside_bands(budget)) as picture:
            chosen = asked.encoder or (picture.format if picture.format in MEDIA_TYPES else "PNG")
            size = asked.target.size(*picture.size)
            check_fits(chosen, *size, transparent=is_see_through(picture))
            check_result(budget, size, chosen)
            like = picture.stripped() if asked.strip else picture
            like = like.signed(self._signature(model, asked))
            rows = _Timed(self._rows(model, picture, asked, ticket))
            decoded_s = time.monotonic() - start
            with closing(rows):
                encode_rows(rows, size, like, chosen, out, asked.quality, asked.png_level)
        seconds = time.monotonic() - start
        metrics().compute_seconds.labels(size_class(ticket.cost.result_px)).observe(seconds)
        compute_s = decoded_s + rows.seconds
        return Answer(
            MEDIA_TYPES[chosen],
            model.name,
            size,
            ticket.waited_s,
            compute_s,
            seconds - compute_s,
            ticket.remade_tiles,
        )

    def _rows(
        self, model: Model, picture: Picture[Any], asked: Parameters, ticket: Ticket
    ) -> Generator[NDArray[np.float32]]:
        runtime = SharedRuntime(self.tiles, model.runtime, ticket)

        def note(sentence: str) -> None:
            ticket.remade_tiles += 1
            metrics().remade_tiles.inc()
            _LOG.warning("%s", sentence)

        return Upscaler(runtime, self._settings(model, asked)).upscale_rows(
            picture, asked.target, fidelity=asked.fidelity, progress=ticket.progress, note=note
        )

    def _settings(self, model: Model, asked: Parameters) -> UpscaleSettings:
        manifest = model.manifest
        how = fitted(manifest.upscale, self.settings.memory_bytes, manifest.arch)
        return how if asked.colour is None else how.model_copy(update={"colour": asked.colour})

    def _signature(self, model: Model, asked: Parameters) -> str:
        how, version = self._settings(model, asked), model.located.version
        return signature(model.manifest, version, asked.target, how, asked.fidelity)

    def _follow(self, found: Located) -> None:
        """Load the model, then watch for another one; a registry that is silent changes nothing."""
        while True:
            try:
                if self._model is None or found.path != self._model.located.path:
                    self._use(found)
                self._failed = None
            except Exception as error:
                self._failed = f"the model cannot be loaded: {error}"
                _LOG.error("the model at %s cannot be loaded", found.path, exc_info=error)
            metrics().measure_memory()
            time.sleep(self.settings.follow_s)
            try:
                found = locate(self.settings.model)
            except (RegistryError, ModelError) as error:
                _LOG.warning("the registry does not answer: %s", error)
            except Exception as error:  # whatever it is, the champion of next time is to be seen
                _LOG.error("the champion cannot be looked up", exc_info=error)

    def _use(self, found: Located) -> None:
        from tudsr.model.opening import open_runtime

        manifest = load_bundle(found.path, verify=False)  # the runtime checks every file
        budget = self.settings.memory_bytes
        used = fitted(manifest.upscale, budget, manifest.arch)
        runtime = open_runtime(
            found.path,
            self.settings.device,
            memory_bytes=beside_bands(budget),
            side_by_side=tiles_at_once(budget, used.tile_px, manifest.arch),
        )
        model, old = Model(found, manifest, runtime), self._model
        if (sentence := smaller_tile(manifest.upscale, used, budget)) is not None:
            _LOG.warning("%s", sentence)
        self._warm_up(model)
        self._model = model
        if old is not None:
            metrics().uses(old.version, old.manifest.bundle_hash, now=False)
        metrics().uses(model.version, manifest.bundle_hash, now=True)

    def _warm_up(self, model: Model) -> None:
        """Grey through both stages: compiles, allocates, and shows that it works.

        Whole tiles, and as many at once as will ever be: what fewer or smaller ones take says
        little about those that come. Then a picture of that size, to measure by.
        """
        how, multiple = self._settings(model, Parameters()), model.runtime.size_multiple
        grey, beside = np.full((how.tile_px, how.tile_px, 3), 0.5, np.float32), model.runtime.beside
        for runtime, count in ((beside, beside.side_by_side), (model.runtime, 1)):
            for stage in (1, 2):
                list(in_order(partial(runtime.restore, stage=stage), [grey] * count, count))
        side = max(1, how.tile_px // _WARM_UP_SCALE)
        cost = cost_of((side, side), _WARM_UP_SCALE, how, multiple)
        ticket = Ticket(cost, (now := time.monotonic()), now + 600)
        self.speed.starts_anew()
        for _rows in self._rows(model, Picture(grey[:side, :side]), Parameters(), ticket):
            pass


def bundled_model() -> str | None:
    """The bundle that a Bento carries beside this package, if this is one."""
    folder = Path(__file__).resolve().parents[1] / "bundle"
    return str(folder) if folder.is_dir() else None
