import numpy as np
import pytest
import torch
import torchvision
from scipy import ndimage

from tudsr.model.critic import Critic
from tudsr.model.losses import (
    Dists,
    bce,
    feature_distance,
    lattice_error,
    sobel,
    staged_trunk,
)
from tudsr.model.trunks import load_trunk
from tudsr.profile import CriticSettings


@pytest.fixture(scope="module")
def pair():
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    return x, (x + 0.1 * noise).clamp(0, 1)


@pytest.mark.parametrize("name", ["hed_vgg16", "random"])
def test_dists_equals_the_reference_package_on_the_same_trunk(pair, name, monkeypatch):
    import DISTS_pytorch.DISTS_pt as package

    plain = torchvision.models.vgg16
    monkeypatch.setattr(package.models, "vgg16", lambda **_: plain(weights=None))
    reference = package.DISTS(load_weights=True)
    ours = [m for m in load_trunk(name) if isinstance(m, torch.nn.Conv2d)]
    stages = [getattr(reference, f"stage{i}") for i in range(1, 6)]
    theirs = [m for stage in stages for m in stage if isinstance(m, torch.nn.Conv2d)]
    for mine, other in zip(ours, theirs, strict=True):
        other.load_state_dict(mine.state_dict())
    trunk, (x, y) = staged_trunk(name), pair
    with torch.no_grad():
        expected = reference(x, y)
        measured = Dists()(x, y, trunk(x), trunk(y))
    torch.testing.assert_close(measured, expected, rtol=1e-4, atol=1e-5)


def test_dists_of_an_image_with_itself_is_zero(pair):
    trunk, (x, y) = staged_trunk("hed_vgg16"), pair
    dists = Dists()
    assert dists(x, x, trunk(x), trunk(x)).abs().max() < 1e-5
    assert (dists(x, y, trunk(x), trunk(y)) > 0.01).all()


def test_sobel_is_scipys(pair):
    x, _ = pair
    grey = x[0].mean(0).numpy()
    gy, gx = (ndimage.sobel(grey, axis, mode="nearest") for axis in (0, 1))
    expected = np.sqrt(gx**2 + gy**2 + 1e-6)
    for channel in sobel(x)[0].numpy():
        np.testing.assert_allclose(channel, expected, rtol=1e-4, atol=1e-5)


def test_the_feature_distance_is_that_of_the_lpips_package_without_weights():
    from lpips import normalize_tensor

    random = torch.Generator().manual_seed(2)
    x = [torch.randn(2, c, 8, 8, generator=random) for c in (4, 16)]
    y = [torch.randn(2, c, 8, 8, generator=random) for c in (4, 16)]
    pairs = zip(x, y, strict=True)
    expected = [
        (normalize_tensor(a) - normalize_tensor(b)).square().sum(1).mean() for a, b in pairs
    ]
    torch.testing.assert_close(feature_distance(x, y), sum(expected), rtol=1e-5, atol=1e-6)
    assert feature_distance(x, [3 * f for f in x]) < 1e-10


def test_a_pattern_that_repeats_with_the_lattice_is_seen_and_others_are_not(pair):
    x, y = pair
    assert lattice_error(x, x, 4) == 0
    assert lattice_error(x + 0.1, x, 4) < 1e-6, "brightness is no pattern"
    mesh = torch.zeros(4, 4)
    mesh[::2, ::2] = mesh[1::2, 1::2] = 0.1
    tiled = mesh.repeat(16, 16)
    expected = (mesh - mesh.mean()).abs().mean()
    torch.testing.assert_close(lattice_error(x + tiled, x, 4), expected, rtol=1e-4, atol=1e-6)
    noise = lattice_error(y, x, 4)
    assert noise < 0.2 * (y - x).abs().mean(), "64 blocks a window: noise averages out"
    off_lattice = torch.zeros(5, 5)
    off_lattice[::2] = 0.1
    other = off_lattice.repeat(13, 13)[:64, :64]
    assert lattice_error(x + other, x, 4) < 0.5 * expected
    odd = x[..., :50].clone().requires_grad_(True)
    lattice_error(odd, y[..., :50], 4).backward()
    assert odd.grad is not None
    assert odd.grad[..., 32:].abs().max() == 0 < odd.grad[..., :32].abs().max()


@pytest.mark.parametrize("target", [0.0, 0.8])
def test_bce_is_the_papers_sigmoid_and_cross_entropy(target):
    maps = [torch.randn(2, 1, 4, 4), torch.randn(2, 1, 8, 8)]
    expected = torch.stack(
        [
            torch.nn.functional.binary_cross_entropy(m.sigmoid(), torch.full_like(m, target))
            for m in maps
        ]
    ).mean()
    torch.testing.assert_close(bce(maps, target), expected)


def test_critic_scores_three_levels_and_does_not_care_about_the_trunks_scale():
    critic = Critic(CriticSettings(trunk="random", levels=(2, 3, 4), width=16), seed=0).eval()
    features = critic.trunk(torch.rand(2, 3, 64, 64))
    maps = critic(features)
    assert [tuple(m.shape) for m in maps] == [(2, 1, 32, 32), (2, 1, 16, 16), (2, 1, 8, 8)]
    for m, scaled in zip(maps, critic([100 * f for f in features]), strict=True):
        torch.testing.assert_close(m, scaled, rtol=1e-3, atol=1e-4)


def test_a_stride_of_two_halves_the_map_before_each_convolution():
    settings = CriticSettings(trunk="random", levels=(2, 3, 4), width=16, blocks=2, stride=2)
    critic = Critic(settings, seed=0).eval()
    maps = critic(critic.trunk(torch.rand(1, 3, 128, 128)))
    assert [tuple(m.shape) for m in maps] == [(1, 1, 16, 16), (1, 1, 8, 8), (1, 1, 4, 4)]


@pytest.mark.parametrize(
    ("width", "found"), [(None, [(64, 32), (128, 64), (256, 128)]), (48, [(48, 24)] * 3)]
)
def test_a_heads_blocks_halve_its_levels_channels_unless_a_width_is_set(width, found):
    critic = Critic(CriticSettings(trunk="random", levels=(2, 3, 4), width=width), seed=0)
    convs = [[m for m in head if isinstance(m, torch.nn.Conv2d)] for head in critic.heads]
    assert [tuple(m.out_channels for m in head) for head in convs] == [(*w, 1) for w in found]


def test_trunk_is_frozen_and_not_in_the_critics_state():
    critic = Critic(CriticSettings(trunk="random", width=16), seed=0)
    assert all(name.startswith("heads.") for name in critic.state_dict())
    assert not any(p.requires_grad for p in critic.trunk.parameters())


def test_training_elsewhere_leaves_this_devices_trunk_where_it_is():
    here = staged_trunk("random")
    there = Critic(CriticSettings(trunk="random", levels=(2, 3, 4), width=16), 0, "meta")
    assert there.trunk is staged_trunk("random", None, torch.device("meta"))
    assert {p.device.type for p in there.parameters()} == {"meta"}
    assert {p.device.type for p in there.trunk.parameters()} == {"meta"}
    assert staged_trunk("random", device="cpu") is here
    assert {p.device.type for p in here.parameters()} == {"cpu"}
    assert {p.device.type for p in load_trunk("random").parameters()} == {"cpu"}
