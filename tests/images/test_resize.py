import numpy as np
import pytest
from PIL import Image

from tudsr.errors import ImageError
from tudsr.images.resize import bicubic_resize, bicubic_rows


def keys_weights(n_in: int, n_out: int) -> np.ndarray:
    """Keys' kernel (a = -0.5), antialiased: the closed form that the resize must equal."""
    scale = max(n_in / n_out, 1.0)
    centres = (np.arange(n_out) + 0.5) * n_in / n_out - 0.5
    t = np.abs(np.arange(n_in)[None, :] - centres[:, None]) / scale
    near = (1.5 * t - 2.5) * t**2 + 1
    far = ((-0.5 * t + 2.5) * t - 4) * t + 2
    weights = np.where(t < 1, near, np.where(t < 2, far, 0.0))
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("size", [(12, 10), (48, 60), (7, 95), (24, 20)])
def test_equals_the_closed_form_up_and_down(size):
    image = np.random.default_rng(0).random((24, 30, 3), np.float32)
    rows, columns = keys_weights(24, size[0]), keys_weights(30, size[1])
    expected = np.einsum("ij,jkc,lk->ilc", rows, image, columns)
    np.testing.assert_allclose(bicubic_resize(image, *size), expected, atol=2e-6)


def test_equals_pillow_on_bytes_up_to_its_rounding():
    image = np.random.default_rng(1).integers(60, 190, (32, 40, 3), np.uint8)
    pillow = Image.fromarray(image).resize((10, 8), Image.Resampling.BICUBIC)
    ours = bicubic_resize(image.astype(np.float32), 8, 10)
    assert np.abs(ours - np.asarray(pillow, np.float32)).max() <= 1.0  # it rounds twice


def test_keeps_constants_overshoot_and_the_same_size():
    flat = np.full((9, 9, 3), 0.3, np.float32)
    np.testing.assert_allclose(bicubic_resize(flat, 31, 4), 0.3, atol=1e-6)
    step = np.zeros((8, 8), np.float32)
    step[:, 4:] = 1
    assert bicubic_resize(step, 8, 32).max() > 1.01
    same = bicubic_resize(step, 8, 8)
    assert np.array_equal(same, step)
    assert same is not step


def test_refuses_an_empty_side():
    with pytest.raises(ImageError, match="every side"):
        bicubic_resize(np.zeros((4, 4, 3), np.float32), 0, 4)


@pytest.mark.parametrize("size", [(12, 10), (100, 60), (7, 95), (24, 20)])
def test_rows_are_those_of_the_whole(size):
    image = np.random.default_rng(0).random((24, 30, 3), np.float32)
    whole = bicubic_resize(image, *size)
    for rows in (slice(0, 3), slice(2, 6), slice(5, size[0])):
        np.testing.assert_allclose(bicubic_rows(image, *size, rows), whole[rows], atol=1e-6)
