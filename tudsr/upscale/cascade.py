"""Which stages enlarge by which ratios.

The paper has two totals: x4 = M2N2 and x8 = M4N2, and x2 is M2 without a second stage. All other
ratios are extensions of ours: up to x4 the second ratio shrinks (x3 = M2N1.5), up to x8 the first
one grows (x6 = M3N2), and above x8 stage 2 runs once more (x16 = M4N2N2). A model whose stage 1
alone is as good at larger ratios says so (``upscale.one_pass_to``): four fifths of the work; one
that is so on clean inputs alone, too (``upscale.small_steps_if_damaged``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tudsr.errors import SettingsError

if TYPE_CHECKING:
    from tudsr.profile import InterpolationSettings

MIN_SCALE, MAX_SCALE = 1.5, 16.0
ONE_PASS_TO = 2.0  # the paper's


@dataclass(frozen=True)
class Pass:
    """Interpolate by ``ratio``, then restore with the adapter of ``stage`` (1 or 2)."""

    ratio: float
    stage: int

    def interpolation(self, settings: InterpolationSettings) -> Literal["bicubic", "bilinear"]:
        """The kernel before this pass' stage, as in its training."""
        return settings.before_stage1 if self.stage == 1 else settings.before_stage2


def split_scale(scale: float, one_pass_to: float = ONE_PASS_TO) -> tuple[Pass, ...]:
    """The passes whose ratios multiply to ``scale``; up to ``one_pass_to`` stage 1 alone.

    Raises:
        SettingsError: a scale below 1.5 or above 16.
    """
    if not MIN_SCALE <= scale <= MAX_SCALE:
        raise SettingsError(
            f"scale {scale:g} is out of range: give one from {MIN_SCALE:g} to {MAX_SCALE:g}"
        )
    if scale <= one_pass_to:
        return (Pass(scale, 1),)
    if scale <= 4:
        return Pass(2, 1), Pass(scale / 2, 2)
    if scale <= 8:
        return Pass(scale / 2, 1), Pass(2, 2)
    return Pass(4, 1), Pass(2, 2), Pass(scale / 8, 2)


def given_passes(stages: Sequence[tuple[float, int]], scale: float) -> tuple[Pass, ...]:
    """Passes that a caller asks for, such as ``[(8, 1)]``: M8, stage 1 alone (paper, Table 5).

    Raises:
        SettingsError: ratios below 1 or that do not multiply to ``scale``, or an unknown stage.
    """
    passes = tuple(Pass(ratio, stage) for ratio, stage in stages)
    for p in passes:
        if p.ratio < 1 or p.stage not in (1, 2):
            raise SettingsError(
                f"stages {list(stages)}: each is (ratio of at least 1, stage 1 or 2), "
                f"not ({p.ratio:g}, {p.stage})"
            )
    product = math.prod(p.ratio for p in passes)
    if not math.isclose(product, scale, rel_tol=1e-6):
        raise SettingsError(
            f"stages {list(stages)} enlarge by {product:g}, but the scale is {scale:g}"
        )
    return passes


def pass_sizes(height: int, width: int, passes: Sequence[Pass]) -> list[tuple[int, int]]:
    """Height and width after each pass, rounded from the exact running product.

    The last pass interpolates straight to the wanted size, so nothing is resized after it.
    """
    sizes: list[tuple[int, int]] = []
    total = 1.0
    for p in passes:
        total *= p.ratio
        sizes.append((round(height * total), round(width * total)))
    return sizes
