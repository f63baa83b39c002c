"""Wanted sizes: exact to the pixel, or an error that names the possible ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.upscale.test_upscaler import SETTINGS, Same
from tudsr.errors import SettingsError
from tudsr.upscale.target import Target
from tudsr.upscale.upscaler import Upscaler


@pytest.mark.parametrize(
    ("target", "size"),
    [
        (Target(scale=2.5), (100, 150)),
        (Target(width=200), (133, 200)),
        (Target(height=133), (133, 200)),
        (Target(longest=240), (160, 240)),
        (Target(width=240, height=100), (100, 150)),
        (Target(megapixels=0.0384), (160, 240)),
    ],
)
def test_each_way_to_say_a_size(target, size):
    assert target.size(40, 60) == size


@given(st.integers(8, 3000), st.integers(8, 3000), st.floats(1.5, 16))
def test_a_width_is_met_exactly_and_proportions_are_kept(height, width, scale):
    wanted = round(width * scale)
    if not 1.5 <= wanted / width <= 16:
        return
    made = Target(width=wanted).size(height, width)
    assert made[1] == wanted
    assert abs(made[0] - height * wanted / width) <= 0.5


@pytest.mark.parametrize("width", [61, 97, 100, 203, 349])
def test_the_upscaler_makes_exactly_that_size(width):
    pixels = np.random.default_rng(0).random((24, 40, 3), dtype=np.float32)
    made = Upscaler(Same(), SETTINGS).upscale(pixels, Target(width=width))
    assert made.shape == (*Target(width=width).size(24, 40), 3)
    assert made.shape[1] == width


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ({}, "nothing given"),
        ({"scale": 2, "width": 80}, "scale and width"),
        ({"longest": 0}, "longest is 0"),
        ({"scale": float("nan")}, "scale is nan"),
    ],
)
def test_a_target_that_makes_no_sense(target, words):
    with pytest.raises(SettingsError, match=words):
        Target(**target)


def test_a_size_out_of_range_names_the_possible_ones():
    with pytest.raises(SettingsError, match=r"width 50 makes a 60 x 40 .* 90 x 60 to 960 x 640"):
        Target(width=50).size(40, 60)
