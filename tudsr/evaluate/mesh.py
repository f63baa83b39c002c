"""How much of a mesh shows: peaks in the spectrum that the original does not have."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from tudsr.model.mesh import LEAST_PERIODS, mesh_excess

# Divided by the lattices of all codecs here and by those of their UNets' first halvings.
_PERIOD_PX = 16


def mesh(result: NDArray[np.float32], reference: NDArray[np.float32]) -> float | None:
    """``tudsr.model.mesh.mesh_excess`` of periods up to 16 pixels, of two (H, W, 3) in [0, 1].

    0 is none; from about 0.1 on it is plain to see. None where a side is below 64 pixels: there a
    mesh cannot be told.
    """
    if min(result.shape[:2]) < LEAST_PERIODS * _PERIOD_PX:
        return None
    ours, true = (torch.from_numpy(p.transpose(2, 0, 1).copy())[None] for p in (result, reference))
    with torch.inference_mode():
        return float(mesh_excess(ours, true, _PERIOD_PX))
