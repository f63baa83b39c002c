"""Paired comparison of two methods on the same images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict


class Paired(BaseModel):
    """The mean difference (a - b), its 95 % bootstrap interval, and where a is smaller."""

    model_config = ConfigDict(frozen=True)

    mean: float
    low: float
    high: float
    smaller: int
    count: int


def paired(a: Sequence[float], b: Sequence[float], resamples: int, seed: int = 0) -> Paired:
    """Compare ``a`` with ``b`` image by image; the interval is a percentile bootstrap's."""
    difference = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    rng = np.random.default_rng(seed)
    draws = rng.integers(len(difference), size=(resamples, len(difference)))
    low, high = np.percentile(difference[draws].mean(axis=1), (2.5, 97.5))
    return Paired(
        mean=float(difference.mean()),
        low=float(low),
        high=float(high),
        smaller=int((difference < 0).sum()),
        count=len(difference),
    )
