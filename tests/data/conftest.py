"""Small synthetic photographs with a known truth."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

Scene = Callable[[int, int], NDArray[np.uint8]]


@pytest.fixture(scope="session")
def scene() -> Scene:
    """A maker of (size, size, 3) pictures with soft shapes, edges and a little texture."""

    def make(seed: int, size: int = 96) -> NDArray[np.uint8]:
        rng = np.random.default_rng(seed)
        soft = gaussian_filter(rng.standard_normal((size, size, 3)), (size / 10, size / 10, 0))
        shapes = (soft > 0) * 90 + 60 + soft / np.abs(soft).max() * 50
        texture = rng.standard_normal((size, size, 1)) * 2
        return np.clip(shapes + texture, 0, 255).astype(np.uint8)

    return make


@pytest.fixture
def folder(tmp_path: Path, scene: Scene) -> Path:
    """A data folder with three train, two val and two test photographs of 96 pixels."""
    root = tmp_path / "photos"
    for split, count in (("train", 3), ("val", 2), ("test", 2)):
        (root / split).mkdir(parents=True)
        for index in range(count):
            seed = {"train": 0, "val": 10, "test": 20}[split] + index
            Image.fromarray(scene(seed)).save(root / split / f"photo{index}.png")
    return root
