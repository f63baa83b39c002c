"""Grey profiles, against their closed forms."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from tests.images.profiles import grey_profile, one_gamma, parametric, profile, samples
from tudsr.images.grey import grey_curve
from tudsr.images.read import read_image

X = np.linspace(0, 1, 65536)
DEEP, PLAIN = np.dtype(np.uint16), np.dtype(np.uint8)
SRGB = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def encoded(light):
    """IEC 61966-2-1."""
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize(
    ("curve", "light"),
    [
        (one_gamma(1.0), X),
        (one_gamma(2.2), X ** (563 / 256)),
        (samples([]), X),
        (samples([0, 16384, 65535]), np.interp(X, [0, 0.5, 1], [0, 16384 / 65535, 1])),
        (parametric(0, 1.8), X ** (117965 / 65536)),
        (parametric(1, 2, 1.25, -0.25), np.maximum(1.25 * X - 0.25, 0) ** 2),
        (parametric(2, 2, 1, -0.5, 0.25), np.maximum(X - 0.5, 0) ** 2 + 0.25),
        (parametric(4, 2, 0.5, 0.5, 0.25, 0.5, 0, 0.125),
         np.where(X < 0.5, X / 4 + 0.125, (X / 2 + 0.5) ** 2)),
    ],
)  # fmt: skip
def test_sixteen_bits_are_exact_to_a_level(curve, light):
    made, wanted = grey_curve(grey_profile(curve), DEEP), np.rint(encoded(light) * 65535)
    assert np.abs(made - wanted[:, None]).max() <= 1
    assert len(np.unique(made[:, 0])) == pytest.approx(len(np.unique(wanted)), rel=1e-3)


def test_greys_of_srgb_stay_what_they_are():
    assert (
        np.abs(grey_curve(grey_profile(parametric(3, *SRGB)), DEEP) - X[:, None] * 65535).max() <= 4
    )


@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.2])
def test_eight_bits_are_exact_too(gamma):
    light = np.linspace(0, 1, 256) ** (round(gamma * 256) / 256)
    made = grey_curve(grey_profile(one_gamma(gamma)), PLAIN)
    assert (made == np.rint(encoded(light) * 255)[:, None]).all()


BROKEN = one_gamma(1.0)[:4] + bytes(4) + struct.pack(">I", 2**31)


@pytest.mark.parametrize(
    "icc",
    [
        b"no profile",
        grey_profile(one_gamma(2.2))[:140],
        grey_profile(BROKEN),
        grey_profile(parametric(9, 1.0)),
        grey_profile(b"text" + bytes(12)),
        profile(b"mntr", b"GRAY", b"XYZ ", {}),
    ],
)
def test_a_profile_that_cannot_be_used_is_treated_as_absent(icc):
    assert (grey_curve(icc, DEEP) == np.arange(65536)[:, None]).all()


def test_a_curve_of_lightness_goes_through_little_cms():
    """L* = 50 of a profile whose connection space is Lab: 0.184 of the light, in sRGB 0.466."""
    icc = profile(b"mntr", b"GRAY", b"Lab ", {b"kTRC": one_gamma(1.0)})
    assert grey_curve(icc, PLAIN)[127:129].mean() / 255 == pytest.approx(0.466, abs=0.01)


@pytest.mark.parametrize("depth", [8, 16])
def test_a_read_picture_is_in_srgb(depth):
    """Linear grey 0.25 is sRGB 0.5371."""
    top = 2**depth - 1
    grey = np.full((16, 16), round(0.25 * top), np.uint8 if depth == 8 else np.uint16)
    stream = io.BytesIO()
    Image.fromarray(grey).save(stream, "PNG", icc_profile=grey_profile(one_gamma(1.0)))
    picture = read_image(stream.getvalue())
    assert picture.icc is None
    assert picture.pixels.mean() == pytest.approx(0.5371, abs=0.5 / top + 0.001)
