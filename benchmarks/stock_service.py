"""What one would write first: a stock BentoML service of the same model, for comparison.

One endpoint, Pillow in and out, BentoML's defaults; the runtime is what ours opens, so that the
difference is the serving alone. ``BUNDLE`` names the model.
"""

from __future__ import annotations

import os
from pathlib import Path

import bentoml
import numpy as np
from PIL import Image


@bentoml.service(name="stock")
class Stock:
    """Enlarges one picture a call."""

    def __init__(self) -> None:
        from tudsr.model.opening import open_runtime
        from tudsr.release.bundle import load_bundle
        from tudsr.upscale.upscaler import Upscaler

        bundle = Path(os.environ["BUNDLE"])
        self.upscaler = Upscaler(open_runtime(bundle), load_bundle(bundle).upscale)

    @bentoml.api
    def upscale(self, image: Image.Image, scale: float = 4) -> Image.Image:
        """Pixels in, pixels out."""
        pixels = np.asarray(image.convert("RGB"), np.float32) / 255
        return Image.fromarray(np.rint(self.upscaler.upscale(pixels, scale) * 255).astype(np.uint8))
