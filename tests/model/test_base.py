import json

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from scipy.fft import dctn

from tudsr.errors import ModelError
from tudsr.model.adapters import (
    activate,
    adapter_parameters,
    add_adapter,
    load_adapter,
    load_adapter_state,
    save_adapter,
)
from tudsr.model.base import load_base, load_base_folder, random_base, save_base
from tudsr.model.codec import LappedCodec
from tudsr.profile import BaseSettings, LoraSettings


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("timestep", [0, 50, 200, 999])
def test_one_step_is_the_schedulers_own_estimate_of_x0(images, timestep):
    base = random_base("smoke", 0)
    z = base.codec.encode(images * 2 - 1)
    with torch.no_grad():
        epsilon = base.predict_epsilon(z, timestep)
        ours = base.one_step(z, timestep)
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False
    )
    scheduler.set_timesteps(1000)
    truth = scheduler.step(epsilon, timestep, z).pred_original_sample
    torch.testing.assert_close(ours, truth, rtol=1e-4, atol=1e-4)


def test_schedule_has_the_published_values():
    abar = random_base("smoke", 0).alphas_cumprod
    assert abar[50].item() == pytest.approx(0.95158, abs=1e-5)
    assert abar[200].item() == pytest.approx(0.75369, abs=1e-5)
    assert abar[999].item() == pytest.approx(0.00466, abs=1e-5)


def test_codec_is_lossless_and_factor_four(images):
    codec = LappedCodec(4, 0.75)
    latents = codec.encode(images)
    assert latents.shape == (2, 48, 8, 8)
    torch.testing.assert_close(codec.decode(latents), images, rtol=0, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(codec.encode(images), latents, rtol=0, atol=0)


def test_codec_is_orthonormal_and_keeps_flat_pictures_in_three_channels(images):
    plain = LappedCodec(4, 0.0)
    energy = plain.encode(images).square().sum((1, 2, 3))
    torch.testing.assert_close(energy, images.square().sum((1, 2, 3)), rtol=1e-5, atol=1e-4)
    flat = plain.encode(torch.full((1, 3, 32, 32), 0.5))
    assert flat[:, 1:].abs().max() < 1e-5, "only the brightness mean: grey has no colour"
    assert flat[:, 0].std() < 1e-5


def test_codec_is_scipys_cosine_transform_inside_a_block_of_its_own():
    # A picture of one block has no border inside: the lapping leaves it alone.
    block = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    expected = dctn(block[0].numpy(), norm="ortho").flatten()
    np.testing.assert_allclose(LappedCodec(4, 0.0).encode(block).flatten(), expected, atol=1e-5)


def test_codec_divides_by_the_spread_to_the_power_of_balance(images):
    whole, half, none = (LappedCodec(4, b).encode(images) for b in (1.0, 0.5, 0.0))
    torch.testing.assert_close(half.square(), whole * none, rtol=1e-4, atol=1e-6)


def test_what_one_latent_adds_overlaps_its_neighbours():
    latents = torch.zeros(1, 48, 8, 8)
    latents[0, 1, 4, 4] = 1
    added = LappedCodec(4, 0.0).decode(latents)[0, 0].abs().sum(0)
    assert (added[:14] == 0).all()
    assert (added[22:] == 0).all()
    assert added[14] < added[16]
    assert added[14] > 0


def test_fresh_adapter_changes_nothing_and_a_trained_one_does(images):
    base = random_base("smoke", 0)
    with torch.no_grad():
        before = base.restore(images, 200)
        add_adapter(base.unet, "stage1", LoraSettings(), seed=3)
        activate(base.unet, "stage1")
        torch.testing.assert_close(base.restore(images, 200), before, rtol=0, atol=0)
        for parameter in adapter_parameters(base.unet, "stage1"):
            parameter.add_(0.05)
        assert (base.restore(images, 200) - before).abs().max() > 1e-3


@pytest.mark.parametrize(("init", "bounded"), [("gaussian", False), ("kaiming", True)])
def test_an_adapter_starts_as_the_setting_says(init, bounded):
    """Gaussian of deviation 1/rank, or uniform within 1/sqrt(fan in); B is zero either way."""
    base = random_base("smoke", 0)
    add_adapter(base.unet, "stage1", LoraSettings(rank=8, init=init), seed=0)
    module = base.unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_q
    a, b = module.lora_A["stage1"].weight, module.lora_B["stage1"].weight
    assert (b == 0).all()
    limit = module.in_features**-0.5
    assert (a.abs().max() <= limit) == bounded
    if not bounded:
        assert a.std().item() == pytest.approx(1 / 8, rel=0.15)


def test_only_the_active_adapter_trains():
    base = random_base("smoke", 0)
    add_adapter(base.unet, "stage1", LoraSettings(), seed=0)
    add_adapter(base.unet, "stage2", LoraSettings(), seed=1)
    activate(base.unet, "stage2")
    trained = {n for n, p in base.named_parameters() if p.requires_grad}
    assert trained and all(".stage2." in name for name in trained)


def test_saved_adapter_comes_back_with_its_timestep(tmp_path, images):
    base = random_base("smoke", 0)
    add_adapter(base.unet, "stage1", LoraSettings(rank=4), seed=0)
    activate(base.unet, "stage1")
    with torch.no_grad():
        for parameter in adapter_parameters(base.unet, "stage1"):
            parameter.normal_(0, 0.05, generator=torch.Generator().manual_seed(0))
        expected = base.restore(images, 200)
    save_adapter(tmp_path / "a.safetensors", base.unet, "stage1", LoraSettings(rank=4), 200)
    other = random_base("smoke", 0)
    assert load_adapter(tmp_path / "a.safetensors", other.unet, "stage1") == 200
    with torch.no_grad():
        torch.testing.assert_close(other.restore(images, 200), expected)


def test_adapter_of_another_architecture_is_refused(tmp_path):
    base, other = random_base("smoke", 0), random_base("small", 0)
    add_adapter(base.unet, "a", LoraSettings(), seed=0)
    save_adapter(tmp_path / "a.safetensors", base.unet, "a", LoraSettings(), 200)
    with pytest.raises(ModelError, match=r"does not fit this base.*lora.rank.*train it anew"):
        load_adapter(tmp_path / "a.safetensors", other.unet, "a")
    with pytest.raises(ModelError, match="does not fit this base"):
        load_adapter_state(base.unet, "a", {})


def test_adapter_of_another_base_of_the_same_shapes_is_refused(tmp_path):
    for seed in (0, 1):
        save_base(random_base("smoke", seed), tmp_path / f"{seed}", {}, torch.float32)
    one, other = (load_base_folder(tmp_path / f"{seed}") for seed in (0, 1))
    add_adapter(one.unet, "a", LoraSettings(), seed=0)
    recorded, silent = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save_adapter(recorded, one.unet, "a", LoraSettings(), 200, one.files_hash)
    save_adapter(silent, one.unet, "a", LoraSettings(), 200)
    again = load_base_folder(tmp_path / "0")
    assert load_adapter(recorded, again.unet, "a", again.files_hash) == 200
    with pytest.raises(ModelError, match=r"trained on another base.*set base.source"):
        load_adapter(recorded, other.unet, "a", other.files_hash)
    assert load_adapter(silent, other.unet, "a", other.files_hash) == 200, "older ones pass"
    assert load_adapter(recorded, random_base("smoke", 0).unet, "a") == 200


def test_text_file_is_not_an_adapter(tmp_path):
    (tmp_path / "a.safetensors").write_text("hello")
    with pytest.raises(ModelError, match="not an adapter"):
        load_adapter(tmp_path / "a.safetensors", random_base("smoke", 0).unet, "a")


def test_saved_base_comes_back_equal(tmp_path, images):
    base = random_base("smoke", 5)
    save_base(base, tmp_path / "base", {"name": "x"}, torch.float32)
    again = load_base(BaseSettings(source=str(tmp_path / "base"), arch="smoke"))
    with torch.no_grad():
        torch.testing.assert_close(again.restore(images, 200), base.restore(images, 200))
    assert not any(p.requires_grad for p in again.parameters())


def test_missing_base_names_the_remedy(tmp_path):
    with pytest.raises(ModelError, match="dvc pull"):
        load_base(BaseSettings(source=str(tmp_path / "nowhere")))


def test_damaged_base_names_the_file(tmp_path):
    save_base(random_base("smoke", 0), tmp_path / "base", {}, torch.float32)
    weights = tmp_path / "base" / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(ModelError, match=r"diffusion_pytorch_model.*missing or damaged"):
        load_base_folder(tmp_path / "base")


def test_v_prediction_is_refused_with_the_reason(tmp_path):
    save_base(random_base("smoke", 0), tmp_path / "base", {}, torch.float32)
    (tmp_path / "base" / "base.json").unlink()
    config = tmp_path / "base" / "scheduler" / "scheduler_config.json"
    settings = json.loads(config.read_text()) | {"prediction_type": "v_prediction"}
    config.write_text(json.dumps(settings))
    with pytest.raises(ModelError, match=r"v_prediction.*needs 'epsilon'"):
        load_base_folder(tmp_path / "base")


def test_the_same_interface_loads_stable_diffusions_classes(tmp_path):
    """AutoencoderKL and a cross-attention UNet, at a fraction of SD2.1's width."""
    torch.manual_seed(0)
    AutoencoderKL(
        block_out_channels=(8, 8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=4,
    ).save_pretrained(tmp_path / "vae")
    UNet2DConditionModel(
        block_out_channels=(8, 16, 16, 16),
        attention_head_dim=(2, 4, 4, 4),
        cross_attention_dim=16,
        norm_num_groups=4,
        use_linear_projection=True,
    ).save_pretrained(tmp_path / "unet")
    random_base("smoke", 0).scheduler.save_pretrained(str(tmp_path / "scheduler"))
    save_file({"prompt": torch.zeros(1, 77, 16)}, tmp_path / "prompt.safetensors")
    base = load_base(BaseSettings(source=str(tmp_path)))
    assert base.size_multiple == 64
    add_adapter(base.unet, "stage1", LoraSettings(rank=4), seed=0)
    with torch.no_grad():
        restored = base.restore(torch.rand(1, 3, 64, 64), 200)
    assert restored.shape == (1, 3, 64, 64) and restored.isfinite().all()
