"""Attention's scores are never held: not in the UNet, not in the autoencoder's wide head."""

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch.nn.attention import SDPBackend, sdpa_kernel

from tudsr.model.attention import ScoreWatch, check_step
from tudsr.model.base import random_base
from tudsr.model.stable_diffusion import unet_config, vae_config
from tudsr.profile import RuntimeSettings

SIDE = 32


def drawn(module: torch.nn.Module) -> torch.nn.Module:
    """A module of a model on the meta device, with random weights on the CPU."""
    module.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, 0, 0.02, generator=generator)
    return module


def held(run, tokens: int = SIDE**2) -> list[str]:
    with ScoreWatch([tokens]) as watch:
        run()
    return watch.seen


@pytest.mark.parametrize("half", ["encoder", "decoder"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_autoencoders_head_of_512_channels(half, dtype):
    with torch.device("meta"):
        vae = AutoencoderKL(**vae_config("sd21"))
    attention = drawn(getattr(vae, half).mid_block.attentions[0])
    assert (attention.heads, attention.to_q.out_features) == (1, 512)
    x = torch.randn(1, 512, SIDE, SIDE, requires_grad=True)

    def step():
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            attention(x).square().mean().backward()

    assert held(step) == []
    assert x.grad is not None and x.grad.abs().max() > 0


def test_the_unets_self_and_cross_attention_at_its_true_width():
    with torch.device("meta"):
        unet = UNet2DConditionModel(**unet_config("sd21"))
    block = drawn(unet.down_blocks[0].attentions[0])
    x = torch.randn(1, 320, SIDE, SIDE, requires_grad=True)
    prompt = torch.randn(1, 77, 1024)
    run = lambda: block(x, encoder_hidden_states=prompt, return_dict=False)[0].sum().backward()  # noqa: E731
    assert held(run) == []
    assert x.grad is not None


def test_the_watch_does_see_scores_where_they_are_held():
    q = torch.randn(1, 2, SIDE**2, 8, requires_grad=True)

    def plain():
        with sdpa_kernel(SDPBackend.MATH):
            torch.nn.functional.scaled_dot_product_attention(q, q, q).sum().backward()

    found = held(plain)
    assert any(f"(1, 2, {SIDE**2}, {SIDE**2})" in line for line in found)
    assert any("softmax_backward" in line for line in found), "backward passes are seen too"


def test_a_whole_step_of_the_reduced_base_and_the_same_with_the_plain_kernel():
    base = random_base("sd21-eighth", 0)
    settings = RuntimeSettings(device="cpu", precision="fp32")
    found = check_step(base, 128, settings)
    assert found.finite
    assert found.scores == ()
    with sdpa_kernel(SDPBackend.MATH):
        assert check_step(base, 128, settings).scores
