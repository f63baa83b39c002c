"""The striped autoencoder against diffusers' own, whole."""

import pytest
import torch

from benchmarks.live_memory import LiveMemory
from tudsr.images import canvas
from tudsr.model.codec import KlCodec
from tudsr.model.stable_diffusion import random_parts
from tudsr.model.striped_vae import StripedVae


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    made = random_parts("sd21-eighth")[0].eval().requires_grad_(False)
    for name, parameter in made.named_parameters():
        if "norm" in name:  # fresh ones are 1 and 0, which would hide a mistake
            parameter.data += 0.3 * torch.randn_like(parameter)
    return made


def close(ours, theirs):
    """Within the rounding of fp32 through forty layers, as another order of sums leaves it."""
    return (ours - theirs).abs().max() < 2e-5 * theirs.abs().max()


@pytest.mark.parametrize("rows", [2, 6, 64, 1000])
def test_encoding_and_decoding_equal_the_whole(vae, rows):
    torch.manual_seed(1)
    images, latents = torch.rand(1, 3, 136, 72) * 2 - 1, torch.randn(1, 4, 17, 9)
    striped = StripedVae(vae, rows)
    with torch.no_grad():
        whole = vae.encode(images).latent_dist.parameters
        decoded = vae.decode(latents).sample
    assert close(striped.moments(images), whole)
    assert close(striped.decode(latents), decoded)


def test_tiles_would_have_changed_it(vae):
    """What the test above could not see, if any statistics were a stripe's own."""
    torch.manual_seed(1)
    latents = torch.randn(1, 4, 16, 9)
    with torch.no_grad():
        whole = vae.decode(latents).sample
        halves = torch.cat([vae.decode(part).sample for part in latents.chunk(2, 2)], 2)
    inner = slice(8, 40)  # far from the cut, where only statistics and attention differ
    assert not close(halves[:, :, inner], whole[:, :, inner])
    assert close(StripedVae(vae, 16).decode(latents)[:, :, inner], whole[:, :, inner])


def test_what_is_live_is_a_stripe_and_the_keys(vae, monkeypatch):
    monkeypatch.setattr(canvas, "IN_MEMORY_BYTES", 0)
    latents = torch.randn(1, 4, 32, 16)
    with LiveMemory() as whole, torch.no_grad():
        vae.decode(latents)
    with LiveMemory() as striped:
        StripedVae(vae, 8).decode(latents)
    assert striped.peak_bytes < 0.3 * whole.peak_bytes


@pytest.mark.parametrize("seed", [None, 3])
def test_the_codec_takes_stripes_where_memory_is_short_and_nothing_changes(vae, monkeypatch, seed):
    torch.manual_seed(1)
    codec, images = KlCodec(vae), torch.rand(2, 3, 128, 72) * 2 - 1

    def both():
        rng = None if seed is None else torch.Generator().manual_seed(seed)
        with torch.no_grad():
            latents = codec.encode(images, rng)
            return latents, codec.decode(latents)

    whole, used = both(), []
    codec.memory_bytes = 2 * 3 * 128 * 72 * 4 * 32 - 1  # a byte less than 2 x 3 maps of 32 channels
    monkeypatch.setattr(StripedVae, "__init__", _noting(used))
    striped = both()
    assert used == [46, 46], "rows of a stripe, for encoding and decoding"
    assert all(map(close, striped, whole))


def _noting(used):
    init = StripedVae.__init__

    def noted(self, vae, rows=64, folder=None):
        used.append(rows)
        init(self, vae, rows, folder)

    return noted
