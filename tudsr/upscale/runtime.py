"""What the upscaler asks of a model: tiles in, tiles out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tudsr.errors import ModelError

Floats = NDArray[np.float32]


class TileRuntime(Protocol):
    """What restores one tile: torch, or an exported graph that needs no torch.

    Attributes:
        size_multiple: sides of a tile must be multiples of this many pixels.
        side_by_side: how many threads may restore with `beside` at once; 1 where that gains
            nothing.
    """

    size_multiple: int
    side_by_side: int

    @property
    def beside(self) -> TileRuntime:
        """The same model for tiles that others are restored beside: each with a share of the
        processor. Results are those of the runtime itself to rounding."""
        ...

    def restore(self, image: Floats, stage: int, full_precision: bool = False) -> Floats:
        """(H, W, 3) in [0, 1] to the same shape; H and W multiples of ``size_multiple``.

        ``full_precision`` asks for fp32, whatever the runtime uses otherwise.
        """
        ...

    def restore_batch(
        self, images: Sequence[Floats], stage: int, full_precision: bool = False
    ) -> list[Floats]:
        """Several tiles of one shape at once, of one picture or of many."""
        ...


def restore_tile(runtime: TileRuntime, padded: Floats, stage: int) -> tuple[Floats, bool]:
    """A tile through a stage, and whether it took two tries.

    Half precision may overflow where single does not.

    Raises:
        ModelError: the result is not finite, or has another shape.
    """
    restored = runtime.restore(padded, stage)
    again = not np.isfinite(restored).all()
    if again:
        restored = runtime.restore(padded, stage, full_precision=True)
    _check_restored(restored, padded, stage)
    return restored, again


def _check_restored(restored: Floats, given: Floats, stage: int) -> None:
    if restored.shape != given.shape:
        raise ModelError(f"stage {stage} turned {given.shape} into {restored.shape}")
    if not np.isfinite(restored).all():
        raise ModelError(
            f"stage {stage} gave values that are not finite: the model is damaged, or its "
            "precision too low for it; try fp32"
        )
