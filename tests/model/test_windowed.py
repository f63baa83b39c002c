"""Losses taken window by window against the same losses on the whole picture in one graph."""

from contextlib import nullcontext

import pytest
import torch

from benchmarks.live_memory import LiveMemory
from tests.model.thin_trunk import thin_dists, thin_trunk
from tudsr.model.critic import Critic
from tudsr.model.losses import Dists, bce, sobel, staged_trunk
from tudsr.model.windowed import WindowedLosses, cut
from tudsr.profile import CriticSettings

# In float32 two right gradients may be 5e-4 apart: where a ReLU is at its kink, rounding decides.
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-10}
WINDOWED = WindowedLosses(64, nullcontext)
# Two windows of 224 pixels or more each way; no multiple of a window or of a stride.
SIZE = (453, 331)


def pair(dtype):
    rng = torch.Generator().manual_seed(0)
    x, y = (torch.rand(1, 3, *SIZE, generator=rng, dtype=torch.float64) for _ in range(2))
    # One side is dark: the windows' means differ, as a photograph's do.
    ramp = torch.linspace(0.1, 1, SIZE[0], dtype=torch.float64)[:, None]
    return (x * ramp).to(dtype).requires_grad_(), (y * ramp).to(dtype)


def same(found, expected, dtype):
    found, expected = (torch.cat([t.flatten() for t in ts]) for ts in (found, expected))
    return expected.norm() > 0 and (found - expected).norm() < TOLERANCE[dtype] * expected.norm()


@pytest.mark.parametrize("edges", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_dists_has_the_whole_pictures_value_and_gradient(dtype, edges):
    trunk, dists = thin_trunk().to(dtype), thin_dists().to(dtype)
    x, y = pair(dtype)
    views = (sobel(x), sobel(y)) if edges else (x, y)
    value = dists(*views, *map(trunk, views)).mean()
    (expected,) = torch.autograd.grad(3 * value, x)
    found = WINDOWED.backward_dists(dists, trunk, (x, y), 3.0, edges)
    torch.testing.assert_close(found, value.detach(), rtol=1e-5, atol=0)
    assert same([x.grad], [expected], dtype)


@pytest.mark.parametrize(
    ("blocks", "stride", "dtype"),
    [(2, 1, torch.float64), (1, 2, torch.float64), (3, 2, torch.float64), (2, 1, torch.float32)],
)
def test_both_gan_losses_have_the_whole_pictures_values_and_gradients(
    blocks, stride, dtype, monkeypatch
):
    monkeypatch.setattr("tudsr.model.losses._shared_trunk", lambda *_: thin_trunk().to(dtype))
    settings = CriticSettings(trunk="random", blocks=blocks, stride=stride, width=16)
    critic = Critic(settings, 0).eval().to(dtype)
    heads = list(critic.heads.parameters())
    x, y = pair(dtype)

    features = critic.trunk(x)
    gan = bce(critic(features), 0.8)
    (expected,) = torch.autograd.grad(2 * gan, x, retain_graph=True)
    fake = bce(critic([f.detach() for f in features]), 0.0)
    loss = (fake + bce(critic(critic.trunk(y)), 0.8)) / 2
    expected_heads = torch.autograd.grad(loss / 4, heads)

    values = WINDOWED.backward_gan(critic, (x, y), 0.8, 2.0, 1 / 4)
    torch.testing.assert_close(values, (gan.detach(), loss.detach()), rtol=1e-5, atol=0)
    assert same([x.grad], [expected], dtype)
    assert same([p.grad for p in heads], expected_heads, dtype)


def test_windows_share_nothing_leave_nothing_out_and_start_on_the_stride():
    windows = cut(SIZE, 64, 106, 16)
    seen = torch.zeros(1, *SIZE)
    for window in windows:
        (rows, columns) = window.rows.own, window.columns.own
        seen[..., slice(*rows), slice(*columns)] += 1
        assert all(place % 16 == 0 for place in (rows[0], columns[0], window.rows.seen[0]))
    assert (seen == 1).all()
    for stride in (1, 2, 16):
        assert abs(sum(w.share(stride) for w in windows) - 1) < 1e-12
    assert WindowedLosses(512, nullcontext).one_covers(thin_trunk(), (512, 512))
    assert not WindowedLosses(512, nullcontext).one_covers(thin_trunk(), (1024, 512))


def test_each_stage_sees_as_far_as_it_says():
    trunk = thin_trunk().double()
    x = torch.rand(1, 3, 320, 320, dtype=torch.float64, requires_grad=True)
    for features, stride, reach in zip(trunk(x), trunk.strides_px, trunk.reaches_px, strict=True):
        place = 160 // stride
        (slope,) = torch.autograd.grad(features[..., place, place].sum(), x, retain_graph=True)
        rows = slope.abs().sum((0, 1, 3)).nonzero()
        assert (rows.min(), rows.max()) == (160 - reach, 160 + reach)


def test_memory_does_not_grow_with_the_picture():
    """VGG16 itself on meta tensors: only pictures get larger, at most eight of them."""
    kept = []
    for side in (1536, 2048):
        x = torch.empty(1, 3, side, side, device="meta", requires_grad=True)
        y = torch.empty(1, 3, side, side, device="meta")
        trunk, dists = staged_trunk("random", device="meta"), Dists().to("meta")
        critic = Critic(CriticSettings(trunk="random", levels=(2, 3, 4)), 0, "meta").eval()
        losses = WindowedLosses(512, nullcontext)
        with LiveMemory() as live:
            for edges in (False, True):
                losses.backward_dists(dists, trunk, (x, y), 1.0, edges)
            losses.backward_gan(critic, (x, y), 0.8, 1.0, 1.0)
        kept.append(live.peak_bytes)
    pictures = 4 * 3 * (2048**2 - 1536**2)
    assert kept[1] - kept[0] < 1.1 * pictures
    assert kept[0] < 2 * 2**30
