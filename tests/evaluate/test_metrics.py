"""The metrics against independent truths."""

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from tests.conftest import scene
from tudsr.errors import ImageError
from tudsr.evaluate.metrics import delta_e, luma, psnr_y, ssim_y
from tudsr.evaluate.niqe import niqe
from tudsr.evaluate.perceptual import Perceptual
from tudsr.evaluate.seams import seam_ratio, seam_steps
from tudsr.evaluate.statistics import paired


@pytest.fixture(scope="module")
def pair():
    clean = scene(1, 128).astype(np.float32) / 255
    noise = np.random.default_rng(0).normal(0, 0.04, clean.shape)
    return clean, (clean + noise).clip(0, 1).astype(np.float32)


def test_luma_is_bt601_in_studio_range():
    white, black = np.ones((1, 1, 3), np.float32), np.zeros((1, 1, 3), np.float32)
    assert luma(white)[0, 0] == pytest.approx(235)
    assert luma(black)[0, 0] == pytest.approx(16)


def test_psnr_is_scikit_images_on_luma(pair):
    a, b = (luma(p)[4:-4, 4:-4] for p in pair)
    assert psnr_y(*pair) == pytest.approx(peak_signal_noise_ratio(a, b, data_range=255))
    assert psnr_y(pair[0], pair[0]) == float("inf")


def test_ssim_is_scikit_images_with_wangs_window(pair):
    a, b = (luma(p)[4:-4, 4:-4] for p in pair)
    expected = structural_similarity(
        a, b, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim_y(*pair) == pytest.approx(expected)


def test_delta_e_of_a_known_pair():
    # Sharma, Wu & Dalal 2005 give CIEDE2000 in Lab; black to white is 100 in any formula.
    white, black = np.ones((2, 2, 3), np.float32), np.zeros((2, 2, 3), np.float32)
    assert delta_e(white, black) == pytest.approx(100, abs=0.1)
    assert delta_e(white, white) == 0


def test_lpips_is_the_packages_on_the_same_trunk(pair):
    import lpips

    from tudsr.model.trunks import load_trunk

    package = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False)
    theirs = [m for m in package.net.modules() if isinstance(m, torch.nn.Conv2d)]
    ours = [m for m in load_trunk("hed_vgg16") if isinstance(m, torch.nn.Conv2d)]
    for mine, other in zip(ours, theirs, strict=True):
        other.load_state_dict(mine.state_dict())
    a, b = (torch.from_numpy(p.transpose(2, 0, 1))[None] * 2 - 1 for p in pair)
    with torch.no_grad():
        expected = float(package(a, b))
    measured = Perceptual("hed_vgg16").distances(*pair)
    assert measured["lpips_hed"] == pytest.approx(expected, rel=1e-3)


def test_perceptual_distances_do_not_depend_on_what_came_before(pair):
    clean, noisy = pair
    perceptual = Perceptual("random")
    first = perceptual.distances(clean, noisy)
    perceptual.distances(noisy, clean)
    assert perceptual.distances(clean, noisy) == first
    assert perceptual.distances(clean, clean)["lpips_random"] == pytest.approx(0, abs=1e-6)
    assert set(Perceptual("random", dists=False).distances(clean, noisy)) == {"lpips_random"}


def test_niqe_near_the_reference_implementation():
    # BasicSR 1.4.2's calculate_niqe on the same picture gives 63.587; ours differs in the
    # half-size picture, which it makes with MATLAB's bicubic on float64.
    picture = scene(7, 288).astype(np.float32) / 255
    assert niqe(picture) == pytest.approx(63.587, rel=0.03)


def test_niqe_needs_a_whole_block():
    with pytest.raises(ImageError, match="96 x 96") as caught:
        niqe(np.zeros((95, 200, 3), np.float32))
    assert caught.value.code == "too_small"


def test_seam_ratio_sees_a_step_on_the_line_and_nothing_else():
    rng = np.random.default_rng(0)
    smooth = rng.random((64, 64, 3)).astype(np.float32) * 0.1
    stepped = smooth.copy()
    stepped[:, 32:] += 0.5
    assert seam_ratio(smooth, smooth, [], [32]) == 1
    assert (seam_ratio(stepped, smooth, [], [32]) or 0) > 5
    assert seam_ratio(stepped, smooth, [], [8]) == 1
    assert seam_ratio(stepped.transpose(1, 0, 2), smooth.transpose(1, 0, 2), [32], []) == (
        pytest.approx(seam_ratio(stepped, smooth, [], [32]))
    )
    both = seam_steps(stepped, [32], [32])
    assert both == pytest.approx(seam_steps(stepped, [32], []) + seam_steps(stepped, [], [32]))
    assert seam_ratio(stepped, smooth, [], []) is None
    assert seam_ratio(stepped, smooth, [64], [0]) is None


def test_paired_interval_holds_the_mean_and_narrows():
    rng = np.random.default_rng(0)
    b = rng.random(400)
    a = b - 0.1 + rng.normal(0, 0.05, 400)
    few, many = paired(a[:20], b[:20], 2000), paired(a, b, 2000)
    for result in (few, many):
        assert result.low < result.mean < result.high
        assert result.mean == pytest.approx(-0.1, abs=0.03)
    assert many.high - many.low < few.high - few.low
    # The normal approximation is the independent truth: 2 x 1.96 standard errors.
    expected = 2 * 1.96 * np.std(a - b) / np.sqrt(400)
    assert many.high - many.low == pytest.approx(expected, rel=0.1)
    assert paired(b, b, 100).mean == 0
