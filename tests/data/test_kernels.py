import math

import numpy as np
import pytest

from tudsr.data.kernels import (
    SHAPES,
    SIDES,
    compact,
    draw_kernel,
    draw_shape,
    draw_sinc,
    separate,
    sinc_kernel,
)
from tudsr.errors import DataError


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("side", [7, 21])
def test_every_shape_sums_to_one_and_is_symmetric(shape, side):
    kernel = draw_shape(np.random.default_rng(3), shape, side, (0.2, 3.0))
    assert kernel.shape == (side, side)
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    assert kernel.min() >= 0
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-7)


def test_an_isotropic_gaussian_is_the_closed_form():
    kernel = draw_shape(np.random.default_rng(0), "iso", 15, (1.5, 1.5))
    x = np.arange(15) - 7
    line = np.exp(-(x**2) / (2 * 1.5**2))
    expected = np.outer(line, line) / line.sum() ** 2
    np.testing.assert_allclose(kernel, expected, atol=1e-7)


def test_an_anisotropic_gaussian_has_the_drawn_widths():
    kernel = draw_shape(np.random.default_rng(5), "aniso", 21, (0.8, 2.0)).astype(float)
    rng = np.random.default_rng(5)
    widths = sorted((rng.uniform(0.8, 2.0), rng.uniform(0.8, 2.0)))
    y, x = np.mgrid[-10:11, -10:11]
    covariance = [[(kernel * x * x).sum(), (kernel * x * y).sum()]] * 2
    covariance[1] = [covariance[0][1], (kernel * y * y).sum()]
    np.testing.assert_allclose(np.sqrt(np.linalg.eigvalsh(covariance)), widths, rtol=0.01)


def test_sinc_passes_below_its_cutoff_and_stops_above():
    kernel = sinc_kernel(81, math.pi / 2).astype(float)
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    x = np.arange(81) - 40
    gains = [abs((kernel.sum(axis=0) * np.cos(w * x)).sum()) for w in (math.pi / 4, math.pi)]
    assert gains[0] == pytest.approx(1, abs=0.05)
    assert gains[1] == pytest.approx(0, abs=0.05)


def test_drawn_kernels_have_the_promised_sides_and_sum():
    rng = np.random.default_rng(0)
    kernels = [draw_kernel(rng, (0.2, 3.0)) for _ in range(300)] + [draw_sinc(rng)]
    assert {k.shape[0] for k in kernels} == set(SIDES)
    assert all(abs(k.sum() - 1) < 1e-4 for k in kernels)
    assert sum(k.min() < -1e-4 for k in kernels) in range(10, 60)  # sinc: one in ten


def test_unknown_shapes_and_even_sides_are_refused():
    with pytest.raises(DataError, match="no kernel shape"):
        draw_shape(np.random.default_rng(0), "box", 7, (1, 1))
    with pytest.raises(DataError, match="odd"):
        sinc_kernel(8, 1.0)


def test_a_kernel_without_its_empty_rings_filters_alike(scene):
    rng, image = np.random.default_rng(1), scene(1, 64).astype(np.float32)
    cut = 0
    for shape in SHAPES:
        for _ in range(20):
            kernel = draw_shape(rng, shape, 21, (0.2, 3.0))
            small = compact(kernel)
            cut += small.shape[0] < 21
            assert small.sum() == pytest.approx(1, abs=1e-5)
            whole, less = (convolved(image, k) for k in (kernel, small))
            assert np.abs(whole - less).max() < 0.06
    assert cut > 40


def test_upright_gaussians_come_apart_and_slanted_ones_do_not():
    rng = np.random.default_rng(2)
    for _ in range(10):
        kernel = draw_shape(rng, "iso", 15, (0.5, 2.5))
        across, down = separate(kernel)
        np.testing.assert_allclose(np.outer(down, across), kernel, atol=1e-6)
    apart = [separate(draw_shape(rng, "plateau_aniso", 21, (1.0, 3.0))) for _ in range(10)]
    assert apart.count(None) == 10
    assert separate(sinc_kernel(21, 1.0)) is None


def convolved(image, kernel):
    from scipy.ndimage import correlate

    return np.stack([correlate(image[..., c], kernel, mode="mirror") for c in range(3)], -1)
