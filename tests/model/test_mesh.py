"""The spectrum's peaks at the lattice: a mesh has them, other errors have not."""

import numpy as np
import pytest
import torch
from PIL import Image

from tudsr.data.photos import list_photographs
from tudsr.errors import SettingsError
from tudsr.model.mesh import lattice_peaks, mesh_excess


@pytest.fixture(scope="module")
def photo():
    path = next(p.path for p in list_photographs("data") if p.split == "val")
    pixels = np.asarray(Image.open(path).convert("RGB"), np.float32)[400:592, 400:592] / 255
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]


def mesh(like, grey_levels, period=4, seed=0):
    """A pattern that repeats, stronger where the picture is brighter."""
    rng = torch.Generator().manual_seed(seed)
    cell = torch.rand(period, period, generator=rng)
    cell = (cell - cell.mean()) / cell.std()
    times = (like.shape[2] // period, like.shape[3] // period)
    return cell.tile(times) * like * 2 * grey_levels / 255


def test_a_mesh_is_an_excess_and_grows_with_its_strength(photo):
    found = [float(mesh_excess(photo + mesh(photo, g), photo, 8)) for g in (0.0, 1.0, 2.0, 4.0)]
    assert found[0] == 0
    assert found[0] < found[1] < found[2] < found[3]
    # only 15 of the 63 frequencies have a period of 4
    assert found[3] > 0.1


def test_blur_and_noise_are_none(photo):
    strong = mesh_excess(photo + mesh(photo, 4.0), photo, 8)
    small = torch.nn.functional.interpolate(photo, scale_factor=0.5, mode="area")
    soft = torch.nn.functional.interpolate(small, scale_factor=2, mode="bicubic")
    noise = torch.randn(photo.shape, generator=torch.Generator().manual_seed(0)) * 5 / 255
    assert mesh_excess(soft, photo, 8) < 0.25 * strong
    assert mesh_excess(photo + noise, photo, 8) < 0.05 * strong


def test_a_pattern_of_the_reference_is_none(photo):
    fence = photo + mesh(photo, 4.0)
    assert mesh_excess(fence, fence, 8) == 0
    assert mesh_excess(fence, photo, 8) > 0


def test_the_peak_is_at_the_frequency_of_the_mesh(photo):
    rows = torch.arange(192) % 4 < 2
    striped = photo + 0.02 * rows[:, None]
    peaks = lattice_peaks(striped, 8).mean((0, 1))
    # a period of four rows is two eighths down, none across; index 0, the mean's, is left out
    assert int(peaks.argmax()) in (2 * 8 - 1, 6 * 8 - 1)


def test_its_gradient_takes_a_mesh_away(photo):
    seen = (photo + mesh(photo, 3.0)).requires_grad_()
    optimizer = torch.optim.Adam([seen], lr=1e-3)
    before = float(mesh_excess(seen, photo, 8).detach())
    for _ in range(20):
        optimizer.zero_grad()
        mesh_excess(seen, photo, 8).backward()
        optimizer.step()
    assert float(mesh_excess(seen, photo, 8).detach()) < 0.2 * before


def test_a_loss_after_a_metric_has_its_gradient(photo):
    # a tensor kept from inference mode would be refused by autograd; no other test has this size
    crop = photo[..., :40, :40]
    with torch.inference_mode():
        mesh_excess(crop, crop, 8)
    seen = (crop + mesh(crop, 8.0)).requires_grad_()
    mesh_excess(seen, crop, 8).backward()
    assert seen.grad is not None and bool(seen.grad.any())


def test_pictures_without_room_for_four_periods_are_refused():
    with pytest.raises(SettingsError, match="they need 32 each way"):
        mesh_excess(torch.zeros(1, 3, 24, 64), torch.zeros(1, 3, 24, 64), 8)


def test_small_pictures_have_shorter_windows(photo):
    crop = photo[..., :32, :32]
    assert mesh_excess(crop + mesh(crop, 8.0), crop, 8) > mesh_excess(crop, crop, 8)
