"""The striped autoencoder against diffusers' own, whole."""

import pytest
import torch

from benchmarks.live_memory import LiveMemory
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


def test_what_is_live_beside_two_feature_maps_is_a_stripe(vae):
    latents = torch.randn(1, 4, 32, 16)
    feature_map = 32 * 16 * 64 * 32 * 4  # the widest at full size: 32 channels after upsampling
    with LiveMemory() as whole, torch.no_grad():
        vae.decode(latents)
    with LiveMemory() as striped:
        StripedVae(vae, 16).decode(latents)
    assert striped.peak_bytes < 0.9 * whole.peak_bytes
    assert striped.peak_bytes < 3.2 * feature_map
