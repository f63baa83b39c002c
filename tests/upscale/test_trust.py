"""What restoring has removed, told from what it has got wrong: known noise on known structure."""

from __future__ import annotations

import numpy as np
import pytest

from tudsr.images import canvas
from tudsr.images.canvas import blocks
from tudsr.images.resize import bicubic_resize
from tudsr.upscale.trust import CLEAN_RATIO, Trust


def picture(cells: int, height=150, width=200) -> np.ndarray:
    rng = np.random.default_rng(0)
    small = rng.random((cells * 3, cells * 4, 3), dtype=np.float32)
    return np.clip(bicubic_resize(small, height, width), 0, 1)


def noise(levels: float, shape) -> np.ndarray:
    return np.random.default_rng(1).normal(0, levels / 255, shape).astype(np.float32)


def trust_in(lr, reduced) -> Trust:
    trust = Trust()
    for _, around, inner in blocks(*lr.shape[:2], Trust.reach_px):
        trust.look(lr[around], reduced[around], inner)
    return trust


def test_a_result_that_agrees_is_no_reason_for_doubt():
    lr = picture(30)
    assert trust_in(lr, lr).share == 1
    assert Trust().share == 1


def test_a_flat_picture_and_its_rounding_are_no_reason_either():
    flat = np.full((150, 200, 3), 0.4, np.float32)
    assert trust_in(flat, flat + noise(0.25, flat.shape)).share == 1


def test_the_more_noise_was_removed_the_less_an_input_counts():
    clean = picture(12)
    shares = [trust_in(clean + noise(s, clean.shape), clean).share for s in (0.2, 1, 3, 6, 12)]
    assert shares[0] == 1
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < 0.05


def test_the_same_noise_says_less_where_there_is_more_detail():
    ratios = [
        trust_in(clean + noise(5, clean.shape), clean).ratio
        for clean in (picture(cells) for cells in (6, 12, 24, 48))
    ]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[-1] < CLEAN_RATIO < ratios[0]


def test_drift_in_proportion_to_detail_is_not_taken_for_damage():
    lr = picture(40)
    softened = 0.8 * lr + 0.2 * lr.mean()
    assert trust_in(lr, softened).ratio == pytest.approx(0.25, abs=0.01)
    assert trust_in(lr, softened).share == 1


def test_blocks_make_no_difference(monkeypatch):
    lr = picture(20)
    reduced = lr + noise(4, lr.shape)
    whole = trust_in(lr, reduced).ratio
    monkeypatch.setattr(canvas, "_BLOCK_PX", 37)
    assert trust_in(lr, reduced).ratio == pytest.approx(whole, rel=1e-4)
