"""The runtime on a CPU: OpenVINO graphs, no torch.

The codec computes in fp32; the stages in bf16 where the processor multiplies bf16 by itself, else
in fp32. With the codec in bf16 a result would be off by up to 2.7 grey levels, like this by 0.8
(docs/log.md).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tudsr.model.cpu_form import load_form, quiet_openvino
from tudsr.release.bundle import BundleManifest

Floats = NDArray[np.float32]


class CpuRuntime:
    """Restores tiles with the CPU form of a bundle.

    Attributes:
        size_multiple: sides of a tile must be multiples of this many pixels.
        precision: what the stages compute in, ``bf16`` or ``fp32``.
    """

    def __init__(self, folder: Path, bundle: BundleManifest, precision: str = "auto") -> None:
        self.size_multiple = load_form(folder, bundle).size_multiple
        self._folder = folder
        self.precision = self._native() if precision == "auto" else precision
        # Methods of this object keep it alive in the cache: that is as long as it lives anyway.
        self._graph = cache(self._compiled)

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
        return self._graph(graph, precision)(list(inputs), share_inputs=True)[0]

    def _compiled(self, graph: str, precision: str) -> Any:
        hints = {
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
            "INFERENCE_NUM_THREADS": len(os.sched_getaffinity(0)),
            "PERFORMANCE_HINT": "LATENCY",
            # What was compiled; a file that does not fit this machine or version is passed over.
            # OpenVINO 2026.4 takes one made for another precision, too, and attention then gives
            # NaN on AMX (docs/log.md): so each precision has a folder of its own.
            "CACHE_DIR": str(self._folder / "compiled" / precision),
        }
        return _core().compile_model(str(self._folder / f"{graph}.xml"), "CPU", hints)

    def _native(self) -> str:
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
