"""The torch runtime: tiles together are tiles one by one."""

import numpy as np

from tests.conftest import scene
from tudsr.model.runtime import load_runtime


def test_a_batch_is_its_tiles_one_by_one(bundle):
    runtime = load_runtime(bundle, "cpu", "fp32")
    tiles = [scene(seed, 64).astype(np.float32) / 255 for seed in range(3)]
    for stage in (1, 2):
        together = runtime.restore_batch(tiles, stage)
        alone = [runtime.restore(tile, stage) for tile in tiles]
        np.testing.assert_allclose(together, alone, atol=1e-5)
