"""The runtime on a CPU: OpenVINO graphs, no torch.

The codec computes in fp32; the stages in bf16 where the processor multiplies bf16 by itself, else
in fp32. With the codec in bf16 a result would be off by up to 2.7 grey levels, like this by 0.8
(docs/log.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tudsr.machine import usable_cores
from tudsr.model.cpu_form import load_form, quiet_openvino
from tudsr.release.bundle import BundleManifest
from tudsr.upscale.side_by_side import MOST_SIDE_BY_SIDE

Floats = NDArray[np.float32]

# A graph's first run has the process for itself: in the very first one OpenVINO's bindings set
# themselves up, and two threads at that wait for each other for good (docs/log.md).
_FIRST = Lock()


class CpuRuntime:
    """Restores tiles with the CPU form of a bundle; any thread may ask for one.

    Attributes:
        size_multiple: sides of a tile must be multiples of this many pixels.
        precision: what the stages compute in, ``bf16`` or ``fp32``.
        side_by_side: how many tiles `beside` takes at once, a core or more for each.

    Args:
        folder: of the form.
        bundle: that it belongs to.
        precision: see above; ``auto`` is what suits the processor.
        side_by_side: at most so many, and no more than there are cores.
    """

    def __init__(
        self,
        folder: Path,
        bundle: BundleManifest,
        precision: str = "auto",
        side_by_side: int = MOST_SIDE_BY_SIDE,
    ) -> None:
        self.size_multiple = load_form(folder, bundle).size_multiple
        self.precision = _native() if precision == "auto" else precision
        self.side_by_side = max(1, min(side_by_side, usable_cores()))
        self._graphs = self._shared = _Graphs(folder, streams=1)
        if self.side_by_side > 1:
            self._shared = _Graphs(folder, streams=self.side_by_side)

    @property
    def beside(self) -> CpuRuntime:
        """The same graphs, compiled for several tiles at once."""
        other = copy(self)
        other._graphs = self._shared
        return other

    def restore(self, image: Floats, stage: int, full_precision: bool = False) -> Floats:
        """(H, W, 3) in [0, 1] through stage 1 or 2, to the same shape and range."""
        return self.restore_batch([image], stage, full_precision)[0]

    def restore_batch(
        self, images: Sequence[Floats], stage: int, full_precision: bool = False
    ) -> list[Floats]:
        """Several (H, W, 3) of one shape at once; ``full_precision`` asks for fp32.

        A tile of which anything is not finite on the way is NaN throughout.
        """
        pictures = np.stack(images)
        precision = "fp32" if full_precision else self.precision
        latents = self._run("encode", "fp32", pictures)
        correction = self._run(f"stage{stage}", precision, latents)
        restored = self._run("decode", "fp32", pictures, correction)
        # The decoder's clamp would make black of it, and nobody would know.
        restored[~np.isfinite(correction).all(axis=(1, 2, 3))] = np.nan
        return list(restored)

    def _run(self, graph: str, precision: str, *inputs: Floats) -> Floats:
        return self._graphs.run(graph, precision, list(inputs))


class _Graphs:
    """The graphs of a form as they are asked for, each compiled once.

    Args:
        folder: of the form.
        streams: runs of a graph at once; they share the cores.
    """

    def __init__(self, folder: Path, streams: int) -> None:
        self._folder, self._streams = folder, streams
        self._compiled: dict[tuple[str, str], Any] = {}
        self._free: dict[tuple[str, str], list[Any]] = {}

    def run(self, graph: str, precision: str, inputs: list[Floats]) -> Floats:
        """The one output of a graph; any number of threads may ask, ``streams`` are served."""
        key = graph, precision
        if key not in self._free:
            with _FIRST:
                if key not in self._free:
                    self._compiled[key] = self._compile(graph, precision)
                    request = self._compiled[key].create_infer_request()
                    made = request.infer(inputs, share_inputs=True)[0]
                    self._free[key] = [request]
                    return made
        return self._infer(key, inputs)

    def _infer(self, key: tuple[str, str], inputs: list[Floats]) -> Floats:
        """A request of OpenVINO's serves one thread at a time: each takes one and puts it back."""
        free = self._free[key]
        try:
            request = free.pop()
        except IndexError:
            request = self._compiled[key].create_infer_request()
        try:
            return request.infer(inputs, share_inputs=True)[0]
        finally:
            free.append(request)

    def _compile(self, graph: str, precision: str) -> Any:
        several = f"-{self._streams}" if self._streams > 1 else ""
        hints = {
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
            "INFERENCE_NUM_THREADS": usable_cores(),
            "NUM_STREAMS": self._streams,
            # What was compiled; a file that does not fit this machine or version is passed over.
            # OpenVINO 2026.4 takes one made for another precision, too, and attention then gives
            # NaN on AMX (docs/log.md): so each precision has a folder of its own.
            "CACHE_DIR": str(self._folder / "compiled" / f"{precision}{several}"),
        }
        return _core().compile_model(str(self._folder / f"{graph}.xml"), "CPU", hints)


def _native() -> str:
    """OpenVINO's own choice for this processor."""
    chosen = _core().get_property("CPU", "INFERENCE_PRECISION_HINT")
    return "bf16" if "bf" in str(chosen) else "fp32"


@cache
def _core() -> Any:
    """One a process, for good.

    Each sets a stack for signals and puts the previous one back when it goes, which may be gone by
    then: the next signal with a handler would end the process.
    """
    return quiet_openvino().Core()
