"""DINO trunks: transformers' own states at the paper's levels, and the arithmetic of patches."""

import pytest
import torch
from transformers import (
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    ViTConfig,
    ViTModel,
)

from benchmarks.live_memory import LiveMemory
from tudsr.errors import ModelError
from tudsr.model.critic import Critic
from tudsr.model.dino import PUBLISHED, fit_to_patches, load_dino
from tudsr.model.trunks import normalise
from tudsr.profile import CriticSettings

COMMON = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
BUILD = {
    "dinov2": lambda: Dinov2Model(Dinov2Config(**COMMON, patch_size=14, image_size=56)),
    "registers": lambda: Dinov2WithRegistersModel(
        Dinov2WithRegistersConfig(**COMMON, patch_size=14, image_size=56, num_register_tokens=4)
    ),
    "dinov3": lambda: DINOv3ViTModel(
        DINOv3ViTConfig(**COMMON, patch_size=16, image_size=64, num_register_tokens=4)
    ),
}
TRUNK = {"dinov2": "dinov2", "registers": "dinov2", "dinov3": "dinov3"}
PREFIX = {"dinov2": 1, "registers": 5, "dinov3": 5}
LEVELS = (1, 2, 4)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Each kind with random weights in transformers' layout."""
    folder = tmp_path_factory.mktemp("dino")
    torch.manual_seed(0)
    for kind, build in BUILD.items():
        model = build().eval()
        with torch.no_grad():  # layer scales start near zero, which would hide the blocks
            for name, parameter in model.named_parameters():
                if "lambda" in name or "norm" in name:
                    parameter.normal_(1, 0.3)
        model.save_pretrained(folder / kind)
    return folder


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(1))


def trunk(saved, kind, levels=LEVELS, final_norm=True, patch_fit="resize"):
    return load_dino(TRUNK[kind], str(saved / kind), None, levels, final_norm, patch_fit)


@pytest.mark.parametrize("kind", BUILD)
@pytest.mark.parametrize("final_norm", [True, False])
def test_maps_are_transformers_hidden_states(saved, images, kind, final_norm):
    model = type(BUILD[kind]()).from_pretrained(saved / kind).eval()
    with torch.no_grad():
        theirs = model(pixel_values=normalise(images), output_hidden_states=True)
        maps = trunk(saved, kind, final_norm=final_norm)(images)
    norm = model.norm if kind == "dinov3" else model.layernorm
    patch = 16 if kind == "dinov3" else 14
    for level, ours in zip(LEVELS, maps, strict=True):
        assert ours.shape == (2, 32, 112 // patch, 112 // patch)
        state = theirs.hidden_states[level]
        tokens = (norm(state) if final_norm else state)[:, PREFIX[kind] :]
        # Row by row: place (y, x) of the map is token y * width + x.
        for y, x in [(0, 0), (0, 3), (2, 1)]:
            expected = tokens[:, y * ours.shape[3] + x]
            torch.testing.assert_close(ours[:, :, y, x], expected, rtol=1e-4, atol=1e-5)
    if final_norm:
        whole = theirs.last_hidden_state[:, PREFIX[kind] :]
        torch.testing.assert_close(maps[-1].flatten(2).transpose(1, 2), whole, rtol=1e-4, atol=1e-4)


def test_a_patch_lies_where_it_is_in_the_picture(saved):
    """Without attention's mixing, what changes at one patch changes the map there most."""
    flat = torch.full((1, 3, 112, 112), 0.5)
    marked = flat.clone()
    marked[:, :, 32:48, 64:80] = 1
    seen = trunk(saved, "dinov3", levels=(1, 2, 3))
    with torch.no_grad():
        change = (seen(marked)[0] - seen(flat)[0]).square().sum(1)[0]
    assert divmod(int(change.argmax()), change.shape[1]) == (2, 4)


def test_blocks_beyond_the_deepest_level_are_dropped(saved):
    short, whole = trunk(saved, "dinov3", levels=(1, 2, 3)), trunk(saved, "dinov3")
    assert len(short.vit.model.layer) == 3
    assert len(whole.vit.model.layer) == 4
    assert not any(p.requires_grad for p in short.parameters())


@pytest.mark.parametrize(
    ("side", "patch", "how", "expected"),
    [
        (512, 16, "resize", 512),
        (512, 14, "resize", 518),
        (512, 14, "crop", 504),
        (1024, 14, "resize", 1022),
        (64, 14, "resize", 70),
        (64, 14, "crop", 56),
    ],
)
def test_patch_arithmetic(side, patch, how, expected):
    fitted = fit_to_patches(torch.rand(1, 3, side, side), patch, how)
    assert fitted.shape == (1, 3, expected, expected)


def test_a_crop_is_the_middle_and_a_fitting_picture_is_left_alone():
    images = torch.rand(1, 3, 30, 32)
    assert torch.equal(fit_to_patches(images, 14, "crop"), images[:, :, 1:29, 2:30])
    assert fit_to_patches(images[:, :, :28, :28], 14, "resize").shape[2:] == (28, 28)
    flat = torch.full((1, 3, 64, 64), 0.25)
    torch.testing.assert_close(
        fit_to_patches(flat, 14, "resize"), flat[:, :, :1, :1].expand(-1, -1, 70, 70)
    )


@pytest.mark.parametrize("kind", BUILD)
def test_blocks_computed_anew_change_nothing_and_hold_less(saved, images, kind):
    """Whole-image losses take the picture in one piece, and its graph must not grow with it."""
    found = []
    for checkpointed in (False, True):
        load_dino.cache_clear()  # what is loaded is shared, and checkpointing is for good
        seen = trunk(saved, kind)
        if checkpointed:
            seen.checkpoint_gradients()
            seen.checkpoint_gradients()  # again is nothing
        leaf = images.clone().requires_grad_()
        with LiveMemory() as live:
            maps = seen(leaf)
            held = live.now_bytes
        torch.cat([m.square().flatten() for m in maps]).sum().backward()
        found.append((held, maps, leaf.grad))
    torch.testing.assert_close(found[0][1:], found[1][1:], rtol=0, atol=0)
    assert found[1][0] < 0.6 * found[0][0]


@pytest.mark.parametrize("kind", ["dinov2", "dinov3"])
def test_a_critic_on_it_trains_its_heads_and_hands_gradients_on(saved, images, kind):
    settings = CriticSettings(
        trunk=kind, trunk_path=str(saved / kind), levels=(1, 2, 3), width=16, diff_augment=False
    )
    critic = Critic(settings, seed=0)
    x = images.clone().requires_grad_()
    maps = critic(critic.features(x, torch.Generator()))
    side = 112 // (16 if kind == "dinov3" else 14)
    assert [tuple(m.shape) for m in maps] == [(2, 1, side, side)] * 3
    sum(m.mean() for m in maps).backward()
    assert x.grad is not None and x.grad.abs().max() > 0
    assert all(p.grad is not None for p in critic.heads.parameters())
    assert all(p.grad is None for p in critic.trunk.parameters())
    assert all(name.startswith("heads.") for name in critic.state_dict())


def test_the_papers_levels_are_the_default_and_blocks_that_are_not_there_an_error(saved):
    settings = CriticSettings(trunk="dinov3", trunk_path=str(saved / "dinov3"))
    with pytest.raises(ModelError, match=r"levels \(3, 6, 9\).*blocks 1 to 4"):
        Critic(settings, seed=0)
    with pytest.raises(ModelError, match=r"levels \(3, 6, 9\).*stages 1 to 5"):
        Critic(CriticSettings(trunk="random", levels=(3, 6, 9)), seed=0)


def test_a_picture_of_too_few_patches(saved):
    with pytest.raises(ModelError, match=r"sees 2 x 2 patches of 16 pixels.*base.r_px"):
        trunk(saved, "dinov3")(torch.rand(1, 3, 32, 32))


def test_other_models_and_missing_ones_are_refused(saved, tmp_path, monkeypatch):
    import huggingface_hub.constants as constants

    with pytest.raises(ModelError, match=r"is a 'dinov2', but the trunk 'dinov3' needs dinov3_vit"):
        load_dino("dinov3", str(saved / "dinov2"), None, LEVELS, True, "resize")
    ViTModel(ViTConfig(**COMMON, patch_size=16, image_size=64)).save_pretrained(tmp_path / "vit")
    with pytest.raises(ModelError, match="is a 'vit'"):
        load_dino("dinov2", str(tmp_path / "vit"), None, LEVELS, True, "resize")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(ModelError, match=r"dinov3-vitb16.*gated.*trunk dinov2"):
        load_dino("dinov3", None, None, (3, 6, 9), True, "resize")
    assert PUBLISHED["dinov2"] == "facebook/dinov2-base"


def test_a_folder_has_no_revisions(saved):
    with pytest.raises(ModelError, match=r"is a folder and has no revisions: leave out critic.tr"):
        load_dino("dinov2", str(saved / "dinov2"), "main", LEVELS, True, "resize")


def test_a_file_without_all_weights_is_refused(saved, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    copy = shutil.copytree(saved / "dinov2", tmp_path / "cut")
    weights = load_file(copy / "model.safetensors")
    weights.pop("layernorm.weight")
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"1 weights are missing, such as 'layernorm.weight'"):
        load_dino("dinov2", str(copy), None, LEVELS, True, "resize")
