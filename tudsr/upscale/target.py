"""What size a result shall have: by ratio, width, height, longest side or megapixels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Self

from tudsr.errors import SettingsError
from tudsr.upscale.cascade import MAX_SCALE, MIN_SCALE

_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Target:
    """The wanted size. One attribute is set, or ``width`` and ``height``: the box to fit in.

    Attributes:
        scale: total ratio, 1.5 to 16.
        width: pixels; the height follows from the picture's proportions.
        height: pixels; the width follows.
        longest: the longer side, pixels.
        megapixels: width x height / 10⁶, met to within rounding.

    Raises:
        SettingsError: nothing, two things or a value that is no positive number.
    """

    scale: float | None = None
    width: int | None = None
    height: int | None = None
    longest: int | None = None
    megapixels: float | None = None

    def __post_init__(self) -> None:
        given = self._given()
        if len(given) != 1 and set(given) != {"width", "height"}:
            named = " and ".join(given) or "nothing"
            raise SettingsError(
                f"{named} given for the size: give one of scale, width, height, longest and "
                "megapixels, or width and height for a box to fit in"
            )
        for name, value in given.items():
            if not (math.isfinite(value) and value > 0):
                raise SettingsError(f"{name} is {value:g}: give a number above 0")

    @classmethod
    def of(cls, value: float | Target) -> Self | Target:
        """A target as it is, a number as a ratio."""
        return value if isinstance(value, Target) else cls(scale=value)

    def __str__(self) -> str:
        if self.scale is not None:
            return f"x{self.scale:g}"
        return ", ".join(f"{name} {value:g}" for name, value in self._given().items())

    def ratio(self, height: int, width: int) -> float:
        """The total ratio for a picture of this size.

        Raises:
            SettingsError: a ratio below 1.5 or above 16.
        """
        wanted = min(f(self, height, width) for name, f in _RATIOS.items() if name in self._given())
        if not MIN_SCALE - _TOLERANCE <= wanted <= MAX_SCALE + _TOLERANCE:
            raise SettingsError(self._out_of_range(wanted, height, width))
        return min(max(wanted, MIN_SCALE), MAX_SCALE)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Exact height and width of the result for a picture of this size, pixels.

        Raises:
            SettingsError: a ratio below 1.5 or above 16.
        """
        ratio = self.ratio(height, width)
        return max(1, round(height * ratio)), max(1, round(width * ratio))

    def _given(self) -> dict[str, float]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def _out_of_range(self, ratio: float, height: int, width: int) -> str:
        limits = f"{MIN_SCALE:g} to {MAX_SCALE:g}"
        if self.scale is not None:
            return f"scale {self.scale:g} is out of range: give one from {limits}"
        least, most = (Target(scale=s).size(height, width) for s in (MIN_SCALE, MAX_SCALE))
        return (
            f"{self} makes a {width} x {height} picture {ratio:.3g} times as large, out of range "
            f"{limits}: ask for {least[1]} x {least[0]} to {most[1]} x {most[0]} pixels"
        )


_RATIOS: dict[str, Callable[[Target, int, int], float]] = {
    "scale": lambda t, h, w: t.scale or 0,
    "width": lambda t, h, w: (t.width or 0) / w,
    "height": lambda t, h, w: (t.height or 0) / h,
    "longest": lambda t, h, w: (t.longest or 0) / max(h, w),
    "megapixels": lambda t, h, w: math.sqrt((t.megapixels or 0) * 1e6 / (h * w)),
}
