"""A picture of `make run`: bicubic, ours and the original, from the last run's model.

    python -m benchmarks.readme_picture

Crops of the test pairs, none of which the model was trained on; nothing is retouched.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tudsr.data.pairs import load_pairs, read_pair
from tudsr.evaluate.score import bicubic
from tudsr.model.runtime import training_runtime
from tudsr.places import outputs_dir
from tudsr.profile import PROJECT_ROOT, load_profile
from tudsr.upscale.upscaler import Upscaler

CROPS = (("bluebird", 8, 130, 130), ("singaporean", 4, 150, 150), ("bridge", 4, 128, 128))
SIDE_PX, GAP_PX = 240, 8


def main() -> None:
    """Write docs/before-after.webp."""
    run = outputs_dir() / "run"
    profile = load_profile("tiny")
    trained = outputs_dir() / "train"
    adapters = {n: trained / f"adapter{n}" / "adapter.safetensors" for n in (1, 2)}
    runtime = training_runtime(profile.base, adapters, profile.runtime, profile.upscale)
    upscaler = Upscaler(runtime, profile.upscale)
    rows = [_row(run / "pairs", upscaler, *crop) for crop in CROPS]
    gap = np.ones((GAP_PX, rows[0].shape[1], 3), np.float32)
    sheet = np.concatenate([part for row in rows for part in (row, gap)][:-1])
    out = PROJECT_ROOT / "docs" / "before-after.webp"
    Image.fromarray((sheet * 255 + 0.5).astype(np.uint8)).save(out, quality=92)
    print(out)


def _row(pairs: Path, upscaler: Upscaler, name: str, scale: int, top: int, left: int) -> np.ndarray:
    found = [p for p in load_pairs(pairs).select("test", scale) if name in p.photo]
    lr, hr = read_pair(found[0], pairs, PROJECT_ROOT / "data")
    window = (slice(top, top + SIDE_PX), slice(left, left + SIDE_PX))
    gap = np.ones((SIDE_PX, GAP_PX, 3), np.float32)
    pictures = (bicubic(lr, scale), upscaler.upscale(lr, scale), hr)
    shown = [p[window].clip(0, 1) for p in pictures]
    return np.concatenate([shown[0], gap, shown[1], gap, shown[2]], axis=1)


if __name__ == "__main__":
    main()
