"""A peer's command line for benchmarks/speed.py: one picture in, one out, x8.

python -m benchmarks.peer_once NAME IN OUT
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image


def main() -> None:
    """Enlarge by the first x8 peer whose name starts with NAME."""
    from benchmarks.peers import peers

    name, source, target = sys.argv[1:]
    peer = next(p for p in peers(8) if p.name.startswith(name))
    with Image.open(source) as image:
        pixels = np.asarray(image.convert("RGB"), np.float32) / np.float32(255)
    result = np.rint(peer.enlarge(pixels) * 255).astype(np.uint8)
    Image.fromarray(result).save(Path(target), compress_level=1)


if __name__ == "__main__":
    main()
