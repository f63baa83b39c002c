"""Pre-training of a base: what is mixed, that it learns, that a killed run goes on."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tudsr.data.photos import list_photographs
from tudsr.errors import ModelError, SettingsError
from tudsr.model.base import load_base_folder, random_base, save_base
from tudsr.model.codec import load_codec
from tudsr.profile import Profile, load_profile
from tudsr.train.pretrain import DenoisingTask, pretrain_base


@pytest.fixture
def base():
    return random_base("smoke", 0)


@pytest.fixture
def latents():
    return torch.from_numpy(np.random.default_rng(0).standard_normal((2, 48, 8, 8), np.float32))


def test_preconditioned_an_output_of_zero_leaves_the_latent_as_it_is(base, latents):
    for parameter in base.unet.conv_out.parameters():
        torch.nn.init.zeros_(parameter)
    for t in (50, 200):
        torch.testing.assert_close(base.one_step(latents, t), latents, atol=1e-5, rtol=1e-5)


def test_the_preconditioning_is_kept_with_the_weights(base, tmp_path):
    save_base(base, tmp_path / "base", {"name": "x"}, torch.float32)
    assert load_base_folder(tmp_path / "base").preconditioned
    save_base(base, tmp_path / "plain", {"preconditioned": False}, torch.float32)
    assert not load_base_folder(tmp_path / "plain").preconditioned


def profile(**pretrain: float) -> Profile:
    whole = load_profile("smoke")
    settings = whole.pretrain.model_copy(update=pretrain)
    return whole.model_copy(update={"pretrain": settings})


def test_the_learned_decoder_comes_first_and_alone(base):
    settings = profile(warmup=0, lr=5e-3, decoder_images=160)
    task, batch = DenoisingTask(base, settings), _batch(settings)
    unet = [p.clone() for p in base.unet.parameters()]
    before = float(task.update(batch, 0, 1.0)["loss_restore"])
    for step in range(1, 20):
        after = float(task.update(batch, step * 8, 1.0)["loss_restore"])
    assert after < 0.97 * before
    assert all(torch.equal(a, b) for a, b in zip(unet, base.unet.parameters(), strict=True))
    task.update(batch, 160, 1.0)
    assert not all(torch.equal(a, b) for a, b in zip(unet, base.unet.parameters(), strict=True))


def test_the_learned_decoder_is_kept_with_the_weights(base, tmp_path, latents):
    save_base(base, tmp_path / "base", {}, torch.float32)
    again = load_base_folder(tmp_path / "base")
    theirs, ours = again.codec.learned.state_dict(), base.codec.learned.state_dict()
    assert all(torch.equal(theirs[k], ours[k]) for k in ours) and theirs.keys() == ours.keys()
    assert again.codec.learned.size == base.codec.learned.size
    base.codec.learned.start_from_nothing()
    plain = base.codec.transform_back(latents)
    torch.testing.assert_close(base.codec.decode(latents), plain, rtol=0, atol=0)
    assert not torch.allclose(again.codec.decode(latents), plain, atol=1e-3), "it adds nothing"
    (tmp_path / "base" / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ModelError, match="missing or damaged"):
        load_base_folder(tmp_path / "base")
    with pytest.raises(ModelError, match="no complete codec"):
        load_codec(tmp_path / "base" / "vae")


def train_photos() -> list:
    return [p.path for p in list_photographs("data") if p.split == "train"][:4]


def test_it_learns_to_restore_without_an_adapter(base):
    settings = profile(warmup=0, lr=2e-3, restore_share=1.0)
    task, batch = DenoisingTask(base, settings), _batch(settings)
    before = _restoration_error(base, batch)
    for step in range(60):
        losses = task.update(batch, step * 8, 1.0)
    assert np.isfinite(float(losses["loss_restore"]))
    assert _restoration_error(base, batch) < 0.7 * before


def test_the_same_inputs_give_the_same_base_and_other_settings_another(tmp_path):
    made = {}
    for name, share in (("a", 1.0), ("b", 1.0), ("c", 0.0)):
        out = pretrain_base(
            profile(restore_share=share), train_photos(), tmp_path / name, tmp_path / f"{name}-w"
        )
        made[name] = load_file(out / "unet" / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(made["a"][k], made["b"][k]) for k in made["a"])
    assert not all(torch.equal(made["a"][k], made["c"][k]) for k in made["a"])


def test_training_goes_on_from_a_base(tmp_path):
    """Legs of hours: the second one starts with the weights of the first and says so."""
    first = pretrain_base(profile(), train_photos(), tmp_path / "a", tmp_path / "w")
    nothing = profile(start=str(first), lr=1e-12)
    second = pretrain_base(nothing, train_photos(), tmp_path / "b", tmp_path / "w")
    for part in ("unet", "vae"):
        made = [
            load_file(f / part / "diffusion_pytorch_model.safetensors") for f in (first, second)
        ]
        assert all(torch.equal(made[0][k], made[1][k]) for k in made[0]), part
    told = load_base_folder(second).info["pretraining"]
    assert told["before"] == load_base_folder(first).info["pretraining"]
    assert told["key"] != told["before"]["key"]
    with pytest.raises(ModelError, match=r"no base at '.*nowhere'"):
        pretrain_base(
            profile(start=str(tmp_path / "nowhere")), train_photos(), tmp_path / "c", tmp_path / "w"
        )


def test_a_start_that_does_not_fit_is_refused(base, tmp_path):
    save_base(base, tmp_path / "other", {"arch": "small"}, torch.float32)
    with pytest.raises(ModelError, match=r"is 'small', the profile's base.arch is 'smoke'"):
        pretrain_base(
            profile(start=str(tmp_path / "other")), train_photos(), tmp_path / "a", tmp_path / "w"
        )
    base.codec.learned = None
    save_base(base, tmp_path / "plain", {"arch": "smoke"}, torch.float32)
    asked = profile(start=str(tmp_path / "plain"), decoder_images=8)
    with pytest.raises(SettingsError, match=r"decoder_images is 8, .* no learned decoder"):
        pretrain_base(asked, train_photos(), tmp_path / "b", tmp_path / "w")


def test_a_checkpoint_holds_all_that_goes_on(base):
    settings = profile()
    one, other = DenoisingTask(base, settings), DenoisingTask(random_base("smoke", 1), settings)
    batch = _batch(settings)
    one.update(batch, 0, 1.0)
    other.load({k: v.clone() for k, v in one.tensors().items()})
    a, b = one.update(batch, 8, 1.0), other.update(batch, 8, 1.0)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)
    ours, theirs = one.tensors(), other.tensors()
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)


def _batch(settings: Profile) -> dict[str, torch.Tensor]:
    from tudsr.train.pairs import TrainingPairs

    pairs = TrainingPairs(train_photos(), settings, settings.base.r_px, (2, 4), 7)
    items = [pairs[i] for i in range(8)]
    return {k: torch.stack([item[k] for item in items]) for k in ("lr", "hr")}


def _restoration_error(base, pairs) -> float:
    with torch.inference_mode():
        return float((base.restore(pairs["lr"], 200) - pairs["hr"]).abs().mean())
