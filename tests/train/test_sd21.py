"""The profile `sd21` from end to end, on its classes at an eighth of the channels."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import Dinov2Config, Dinov2Model, DINOv3ViTConfig, DINOv3ViTModel

from tests.conftest import scene
from tudsr.errors import ModelError, SettingsError
from tudsr.model.adapters import activate, adapter_parameters, add_adapter
from tudsr.model.base import random_base, save_base
from tudsr.model.runtime import training_runtime
from tudsr.profile import RuntimeSettings, UpscaleSettings, load_profile
from tudsr.train.adversarial import AdversarialStep
from tudsr.train.record import read_metrics
from tudsr.train.stages import train_stage1, train_stage2
from tudsr.upscale.upscaler import Upscaler

PROFILE = """
extends: sd21
runtime: {{precision: fp32}}
base: {{source: {base}, arch: sd21-eighth, r_px: 64}}
stage1: &stage
  images: 4
  accumulate: 2
  checkpoint_every: 2
  sample_every: 4
  lr: 1.0e-3
  critic: {{trunk: dinov3, trunk_path: {critic}, levels: [1, 2, 3], width: 16}}
  loss: {{trunk: random, trunk_path: null}}
stage2:
  <<: *stage
  images: 2
  critic: {{trunk: dinov3, trunk_path: {critic}, levels: [1, 2, 3], width: 16, warm_start: true}}
"""

# At R = 64 the middle block sees one token, which attends to itself whatever its query and key are:
# their gradient is zero, up to rounding.
_MIDDLE = "mid_block.attentions.0.transformer_blocks.0.attn1"
ONE_TOKEN = {f"{_MIDDLE}.to_q", f"{_MIDDLE}.to_k"}


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sd21")
    base = random_base("sd21-eighth", 0)
    save_base(base, folder / "base", base.info, torch.bfloat16)
    torch.manual_seed(0)
    DINOv3ViTModel(
        DINOv3ViTConfig(
            hidden_size=32,
            num_hidden_layers=3,
            num_attention_heads=2,
            intermediate_size=64,
            patch_size=16,
            num_register_tokens=4,
        )
    ).save_pretrained(folder / "dinov3")
    path = folder / "mine.yaml"
    path.write_text(PROFILE.format(base=folder / "base", critic=folder / "dinov3"))
    return load_profile(path)


@pytest.fixture(scope="module")
def trained(profile, tmp_path_factory):
    """Both stages, a few steps each; the folder has ``one`` and ``two``."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("trained")
    photos = [folder / f"{i}.png" for i in range(3)]
    for seed, photo in enumerate(photos):
        Image.fromarray(scene(seed)).save(photo)
    train_stage1(profile, photos, folder / "one", folder / "work")
    adapter1 = folder / "one" / "adapter.safetensors"
    train_stage2(profile, photos, adapter1, folder / "two", folder / "work")
    return folder


def test_both_stages_train_with_the_papers_settings(profile, trained):
    assert (profile.stage1.timestep, profile.stage2.timestep, profile.stage2.n) == (200, 50, 2)
    assert profile.stage1.lora.rank == 32
    for name in ("one", "two"):
        rows = read_metrics(trained / name / "metrics.jsonl")
        terms = {"loss_l1", "loss_dists", "loss_dists_edges", "loss_gan", "loss_critic"}
        assert terms <= rows[-1].keys()
        assert all(np.isfinite(v) for row in rows for v in row.values())
        adapter = load_file(trained / name / "adapter.safetensors")
        moved = {k: bool(v.abs().max() > 0) for k, v in adapter.items() if "lora_B" in k}
        assert len(moved) == 194
        idle = {k.removesuffix(".lora_B.weight") for k, has in moved.items() if not has}
        assert idle <= ONE_TOKEN, "B starts at zero: every target of the default set has learned"


@pytest.mark.parametrize("scale", [4, 8])
def test_pictures_are_enlarged_by_merged_and_by_switched_adapters_alike(profile, trained, scale):
    """They differ by rounding alone: by no more than an input that is one float32 further on.

    This random base turns that step of 1e-8 to 1e-7 into about 1e-4.
    """
    paths = {1: trained / "one" / "adapter.safetensors", 2: trained / "two" / "adapter.safetensors"}
    picture = scene(5, 40)[:24].astype(np.float32) / 255

    def enlarged(how, picture, paths):
        settings = RuntimeSettings(device="cpu", precision="fp32", adapters=how)
        runtime = training_runtime(profile.base, paths, settings)
        assert runtime.merged == (how == "merged")
        return Upscaler(runtime, UpscaleSettings(tile_px=128, overlap_px=16)).upscale(
            picture, scale
        )

    merged, switched = (enlarged(how, picture, paths) for how in ("merged", "switched"))
    assert merged.shape == (24 * scale, 40 * scale, 3)
    assert np.isfinite(merged).all()
    rounded = enlarged("merged", np.nextafter(picture, np.float32(2)), paths)
    assert np.abs(merged - switched).mean() < 2 * np.abs(merged - rounded).mean()
    np.testing.assert_allclose(merged, switched, rtol=0, atol=1e-3)
    exchanged = enlarged("switched", picture, {1: paths[2], 2: paths[1]})
    assert np.abs(exchanged - switched).mean() > 0.01, "each stage has its own adapter"


def one_update(settings, precision) -> tuple[dict[str, float], torch.Tensor]:
    """Losses and the adapter's gradient, in one piece, of one picture on a fresh base."""
    base = random_base("sd21-eighth", 0)
    add_adapter(base.unet, "stage1", settings.lora, 0)
    activate(base.unet, "stage1")
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    runtime = RuntimeSettings(device="cpu", precision=precision)
    step = AdversarialStep(base, "stage1", settings, runtime, 0)
    losses = step.accumulate(image, image, 0, 1.0)
    gradients = [p.grad for p in adapter_parameters(base.unet, "stage1") if p.grad is not None]
    assert {g.dtype for g in gradients} == {torch.float32}, "adapters and their gradients are fp32"
    return {k: float(v) for k, v in losses.items()}, torch.cat([g.flatten() for g in gradients])


def test_the_free_critic_in_bf16_autocast_learns_what_it_learns_in_fp32(profile, tmp_path):
    """Patches of 14 do not divide the picture, and its resizing meets autocast."""
    torch.manual_seed(0)
    Dinov2Model(
        Dinov2Config(
            hidden_size=32,
            num_hidden_layers=3,
            num_attention_heads=2,
            intermediate_size=64,
            patch_size=14,
        )
    ).save_pretrained(tmp_path)
    changes = {"trunk": "dinov2", "trunk_path": str(tmp_path)}
    critic = profile.stage1.critic.model_copy(update=changes)
    settings = profile.stage1.model_copy(update={"critic": critic})
    (exact, wanted), (rough, found) = (one_update(settings, how) for how in ("fp32", "bf16"))
    for name, value in exact.items():
        assert rough[name] == pytest.approx(value, rel=0.02), name
    assert found.isfinite().all()
    assert torch.nn.functional.cosine_similarity(wanted, found, 0) > 0.9


def test_the_latent_is_drawn_in_training_as_the_position_says(profile):
    base = random_base("sd21-eighth", 0)
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():  # random weights have a deviation of about 1, as no scaling at all has
        base.codec.vae.quant_conv.bias[4:] = torch.tensor([-4.0, -3.0, -2.0, -1.0])

    def encoded(seed):
        rng = None if seed is None else torch.Generator().manual_seed(seed)
        with torch.no_grad():
            return base.codec.encode(image.expand(64, -1, -1, -1) * 2 - 1, rng)

    assert torch.equal(encoded(1), encoded(1))
    draws, mode = encoded(1), encoded(None)
    with torch.no_grad():
        posterior = base.codec.vae.encode(image * 2 - 1).latent_dist
    spread = posterior.std * base.codec.vae.config["scaling_factor"]
    per_channel = (draws.std(0) / spread[0]).mean((1, 2))
    torch.testing.assert_close(per_channel, torch.ones(4), rtol=0, atol=0.05)
    # 64 draws leave the mean within an eighth of their deviation, on average a tenth.
    assert ((draws.mean(0) - mode[0]).abs() / spread[0]).mean() < 0.15

    def first_loss(latent, seen):
        fresh = random_base("sd21-eighth", 0)
        add_adapter(fresh.unet, "stage1", profile.stage1.lora, 0)
        activate(fresh.unet, "stage1")
        settings = profile.stage1.model_copy(update={"latent": latent})
        step = AdversarialStep(fresh, "stage1", settings, profile.runtime, 0)
        return float(step.accumulate(image, image, seen, 1.0)["loss_l1"])

    assert first_loss("mode", 0) == first_loss("mode", 8)
    assert first_loss("sample", 0) == first_loss("sample", 0) != first_loss("sample", 8)


def test_weights_and_what_the_unet_is_given_in_training_are_channels_last(profile):
    base = random_base("sd21-eighth", 0)
    add_adapter(base.unet, "stage1", profile.stage1.lora, 0)
    activate(base.unet, "stage1")
    kernels = [p for n, p in base.named_parameters() if p.ndim == 4 and "lora_" not in n]
    assert len(kernels) > 100
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in kernels)
    seen: list[torch.Tensor] = []
    base.unet.conv_in.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    step = AdversarialStep(base, "stage1", profile.stage1, profile.runtime, 0)
    step.restored(torch.rand(2, 3, 64, 64), torch.Generator().manual_seed(0))
    assert seen[0].shape == (2, 4, 8, 8) and not seen[0].is_contiguous()
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


def test_stage_two_needs_the_adapter_one_of_its_own_base(profile, trained, tmp_path):
    photos, adapter1 = sorted(trained.glob("*.png")), trained / "one" / "adapter.safetensors"
    base = random_base("sd21-eighth", 1)
    save_base(base, tmp_path / "base", base.info, torch.bfloat16)
    elsewhere = profile.base.model_copy(update={"source": str(tmp_path / "base")})
    other = profile.model_copy(update={"base": elsewhere})
    with pytest.raises(ModelError, match=r"one/adapter.safetensors was trained on another base"):
        train_stage2(other, photos, adapter1, tmp_path / "out", tmp_path / "work")
    nowhere = tmp_path / "nowhere.safetensors"
    with pytest.raises(SettingsError, match=r"no adapter 1 at '.*stage1` first.*--adapter1"):
        train_stage2(profile, photos, nowhere, tmp_path / "out", tmp_path / "work")


def test_stage_two_takes_over_stage_ones_heads_or_says_why_not(profile, trained, tmp_path):
    photos = sorted(trained.glob("*.png"))
    still = profile.stage2.critic.model_copy(update={"lr": 1e-30})
    stage2 = profile.stage2.model_copy(update={"critic": still})
    adapter1 = trained / "one" / "adapter.safetensors"
    work = tmp_path / "work"
    warm = profile.model_copy(update={"stage2": stage2})
    train_stage2(warm, photos, adapter1, tmp_path / "warm", work)
    ones, twos = (load_file(f / "critic.safetensors") for f in (trained / "one", tmp_path / "warm"))
    weights = [name for name in ones if name.endswith("original")]
    assert weights
    assert all(torch.equal(ones[name], twos[name]) for name in weights)
    wide = stage2.model_copy(update={"critic": still.model_copy(update={"width": 32})})
    with pytest.raises(ModelError, match=r"critic.warm_start.*the same critic settings"):
        train_stage2(
            profile.model_copy(update={"stage2": wide}), photos, adapter1, tmp_path / "x", work
        )
