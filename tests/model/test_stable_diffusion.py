"""The true architecture on the meta device: counted, never allocated."""

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from tudsr.errors import ModelError
from tudsr.model.adapters import TARGETS, adapter_parameters, add_adapter
from tudsr.model.base import random_base
from tudsr.model.stable_diffusion import recognise, unet_config, vae_config
from tudsr.profile import LoraSettings

# config.json of SD2.1-base as published, what decides its shapes.
PUBLISHED_UNET = {
    "_class_name": "UNet2DConditionModel",
    "attention_head_dim": [5, 10, 20, 20],
    "block_out_channels": [320, 640, 1280, 1280],
    "cross_attention_dim": 1024,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "in_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "out_channels": 4,
    "sample_size": 64,
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    "use_linear_projection": True,
}
PUBLISHED_VAE = {
    "_class_name": "AutoencoderKL",
    "block_out_channels": [128, 256, 512, 512],
    "latent_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
}


@pytest.fixture
def unet():
    with torch.device("meta"):
        return UNet2DConditionModel(**unet_config("sd21"))


def size(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def layers_named(unet, names) -> list[torch.nn.Conv2d | torch.nn.Linear]:
    modules = [m for n, m in unet.named_modules() if n.endswith(tuple(names))]
    return [m for m in modules if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]


def fans(layer: torch.nn.Conv2d | torch.nn.Linear) -> int:
    return layer.weight[0].numel() + layer.weight.shape[0]


def test_the_unet_has_865_910_724_parameters_and_the_autoencoder_83_653_863(unet):
    assert size(unet) == 865_910_724
    with torch.device("meta"):
        assert size(AutoencoderKL(**vae_config("sd21"))) == 83_653_863


@pytest.mark.parametrize(
    ("targets", "modules", "added", "millions"),
    [
        ("default", 194, 25_257_216, 25.26),
        ("full", 258, 32_445_696, 32.45),
        ("attention", 128, 6_639_616, 6.64),
    ],
)
def test_rank_32_adapters_have_the_papers_size_whatever_they_target(
    unet, targets, modules, added, millions
):
    layers = layers_named(unet, TARGETS[targets])
    add_adapter(unet, "stage1", LoraSettings(rank=32, targets=targets), seed=0)
    assert len(layers) == modules
    assert sum(p.numel() for p in adapter_parameters(unet, "stage1")) == added
    assert sum(32 * fans(layer) for layer in layers) == added, "r (fan_in + fan_out) a layer"
    assert round(added / 1e6, 2) == millions


def test_hypirs_257_layers_are_the_full_preset_without_the_first_convolution(unet):
    """HYPIR's published list, 32.43 M at rank 32, leaves ``conv_in`` out."""
    layers = layers_named(unet, set(TARGETS["full"]) - {"conv_in"})
    assert len(layers) == 257
    assert round(sum(32 * fans(layer) for layer in layers) / 1e6, 2) == 32.43


def test_published_configurations_are_recognised_and_others_are_not():
    assert recognise(PUBLISHED_UNET, PUBLISHED_VAE) == "sd21"
    assert recognise(unet_config("sd21-eighth"), vae_config("sd21-eighth")) == "sd21-eighth"
    assert recognise({**PUBLISHED_UNET, "cross_attention_dim": 768}, PUBLISHED_VAE) == "other"


def test_an_eighth_has_the_same_classes_and_depth_and_the_same_weights_for_a_seed():
    base, again = random_base("sd21-eighth", 3), random_base("sd21-eighth", 3)
    with torch.device("meta"):
        whole = UNet2DConditionModel(**unet_config("sd21"))
    assert [type(m) for m in base.unet.modules()] == [type(m) for m in whole.modules()]
    assert base.prompt.shape == (1, 77, 128)
    assert base.size_multiple == 64
    for a, b in zip(base.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_what_cannot_be_drawn_is_named():
    with pytest.raises(ModelError, match=r"'any' is no architecture.*sd21-eighth"):
        random_base("any", 0)
