import contextlib

import numpy as np
import pytest
import torch

from tests.conftest import scene
from tudsr.errors import SettingsError, TrainingError
from tudsr.images.resize import bicubic_resize
from tudsr.model.adapters import activate, add_adapter, load_adapter
from tudsr.model.base import load_base, random_base
from tudsr.model.mesh import mesh_excess
from tudsr.profile import CropSettings, InterpolationSettings, load_profile
from tudsr.train.adversarial import AdversarialStep
from tudsr.train.chunks import chunk, enlarge, unchunk
from tudsr.train.pairs import TrainingPairs
from tudsr.train.record import read_metrics
from tudsr.train.stage_inputs import stage_inputs
from tudsr.train.stages import StageOne, StageTwo, train_stage1, train_stage2
from tudsr.upscale.interpolate import enlarge_window

SMOKE = load_profile("smoke")
LINEAR = InterpolationSettings(before_stage1="bilinear")


def changed(section, **values):
    """The smoke profile with some settings of one section changed."""
    new = getattr(SMOKE, section).model_copy(update=values)
    return SMOKE.model_copy(update={section: new})


def pictures(count, side, seed=0):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def step_on(profile, adapter="stage1"):
    base = load_base(profile.base)
    add_adapter(base.unet, adapter, profile.stage1.lora, 0)
    activate(base.unet, adapter)
    with torch.no_grad():
        for parameter in base.unet.parameters():
            if parameter.requires_grad:
                parameter.normal_(0, 0.05, generator=torch.Generator().manual_seed(1))
    return AdversarialStep(base, adapter, profile.stage1, profile.runtime, 0)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_chunk_and_unchunk_are_inverse(n):
    images = pictures(2, 8 * n)
    parts = chunk(images, 8)
    assert len(parts) == n * n and all(p.shape == (2, 3, 8, 8) for p in parts)
    assert torch.equal(unchunk(parts, n), images)


def test_chunks_go_left_to_right_then_down():
    rows, columns = torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij")
    images = (rows // 2 * 2 + columns // 2)[None, None].float()
    assert [c.unique().item() for c in chunk(images, 2)] == [0, 1, 2, 3]


@pytest.mark.parametrize("method", ["bicubic", "bilinear"])
def test_pictures_are_interpolated_in_training_as_in_enlarging(method, photos):
    """Point 7: the same setting, the same pixels, before either stage."""
    image = pictures(1, 24).numpy()[0].transpose(1, 2, 0)
    whole = slice(0, 48), slice(0, 48)
    expected = enlarge_window(image, (48, 48), whole, method).clip(0, 1)
    found = enlarge(pictures(1, 24), 2, method)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(found, expected, atol=2e-6)
    how = InterpolationSettings(before_stage1=method)
    upscale = SMOKE.upscale.model_copy(update={"interpolation": how})
    clean = SMOKE.degradation.model_copy(update={"clean_prob": 1.0})
    profile = SMOKE.model_copy(update={"upscale": upscale, "degradation": clean})
    pair = TrainingPairs(photos, profile, 32, (2,), 0)[0]
    lr = bicubic_resize(pair["hr"].permute(1, 2, 0).numpy(), 16, 16).clip(0, 1)
    whole = slice(0, 32), slice(0, 32)
    expected = enlarge_window(lr, (32, 32), whole, method).clip(0, 1)
    np.testing.assert_allclose(pair["lr"].permute(1, 2, 0).numpy(), expected, atol=1 / 255)


def test_crops_and_interpolation_decide_a_training(photos):
    """They are in a checkpoint's inputs, and what else stands in their sections is not."""
    changes = [
        {"data": SMOKE.data.model_copy(update={"crops": CropSettings()})},
        {"upscale": SMOKE.upscale.model_copy(update={"interpolation": LINEAR})},
        {"data": SMOKE.data.model_copy(update={"min_train": 2})},
    ]
    profiles = [SMOKE, *(SMOKE.model_copy(update=change) for change in changes)]
    same, crops, kernel, other = (stage_inputs(p, "stage2", photos, ()).key for p in profiles)
    assert len({same, crops, kernel}) == 3 and other == same


def test_how_often_is_saved_and_told_does_not_decide_a_training(photos, tmp_path, monkeypatch):
    """A run goes on though they were changed, and ends with the same bytes."""
    train_stage1(SMOKE, photos, tmp_path / "whole", tmp_path / "work1")
    original = AdversarialStep.accumulate

    def dying(self, lr, hr, images_seen, *more):
        if images_seen >= 12:
            raise Killed
        seen.append(images_seen)
        return original(self, lr, hr, images_seen, *more)

    def going_on(self, lr, hr, images_seen, *more):
        seen.append(images_seen)
        return original(self, lr, hr, images_seen, *more)

    for accumulate, profile in (
        (dying, SMOKE),
        (going_on, changed("stage1", checkpoint_every=3, log_every=7, sample_every=5)),
    ):
        seen = []
        monkeypatch.setattr(AdversarialStep, "accumulate", accumulate)
        with contextlib.suppress(Killed):
            train_stage1(profile, photos, tmp_path / "out", tmp_path / "work2")
    assert seen[0] == 8
    adapters = [tmp_path / name / "adapter.safetensors" for name in ("whole", "out")]
    assert adapters[0].read_bytes() == adapters[1].read_bytes()


@pytest.mark.parametrize(("r_px", "fitting"), [(33, "32 or 40"), (20, "16 or 24")])
def test_a_size_that_the_base_cannot_take_is_refused_before_training(
    photos, tmp_path, r_px, fitting
):
    profile = changed("base", r_px=r_px)
    with pytest.raises(SettingsError, match=f"takes multiples of 8: set it to {fitting}"):
        train_stage1(profile, photos, tmp_path / "out", tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_generator_and_critic_leave_no_gradient_in_each_other():
    profile = changed("stage1", loss=SMOKE.stage1.loss.model_copy(update={"l1_only_images": 0}))
    step = step_on(profile)
    rng = torch.Generator().manual_seed(0)
    restored = step.base.restore(pictures(1, 32), 200)
    total, _, fakes, reals = step.perceptual_and_gan(
        restored, pictures(1, 32, 1), step.turns(0), rng
    )
    total.backward()
    assert all(p.grad is None for p in step.heads)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in step.parameters)
    before = [p.grad.clone() for p in step.parameters]
    step.critic_backward(fakes, reals, 1.0)
    assert any(p.grad.abs().max() > 0 for p in step.heads)
    assert all(torch.equal(a, p.grad) for a, p in zip(before, step.parameters, strict=True))
    assert all(p.grad is None for n, p in step.base.named_parameters() if "lora_" not in n)


def test_micro_batches_and_chunks_and_seeds_draw_apart_and_an_update_has_one_coin(monkeypatch):
    """16 micro-batches that share one noise tensor are no sixteen samples of it."""
    drawn: list[tuple[float, ...]] = []
    coins: set[int] = set()

    def noting(self, restored, hr, images_seen, share, rng):
        drawn.append(tuple(torch.rand(3, generator=rng).tolist()))
        coins.add(images_seen)
        return {}

    monkeypatch.setattr(AdversarialStep, "backward", noting)
    for seed in (0, 1):
        for stage, side in ((StageOne, 32), (StageTwo, 64)):
            base = load_base(SMOKE.base)
            for name in ("stage1", "stage2"):
                add_adapter(base.unet, name, SMOKE.stage1.lora, 0)
            given = (base, SMOKE.model_copy(update={"seed": seed}))
            task = stage(*given, {}) if stage is StageOne else stage(*given, 200, {})
            monkeypatch.setattr(task.step, "apply", lambda rate: None)
            count = task.group
            task.update({"lr": pictures(count, 32), "hr": pictures(count, side)}, 8, 1.0)
    # Two micro-batches and four chunks a seed; the first of either stage is the same place.
    assert (len(drawn), len(set(drawn))) == (12, 10)
    assert coins == {8}


def test_looped_gradients_equal_the_unchunked_graphs():
    """Goal T3: one graph over all chunks and a backward per chunk give the same gradient."""
    profile = changed("stage1", loss=SMOKE.stage1.loss.model_copy(update={"l1_only_images": 0}))
    step = step_on(profile)
    step.critic.eval()  # spectral norm's power iteration must not move between the two
    lr, hr = chunk(pictures(1, 64), 32), chunk(pictures(1, 64, 1), 32)
    for low, high in zip(lr, hr, strict=True):
        step.accumulate(low, high, 0, 1 / 4)
    looped = torch.cat([p.grad.flatten() for p in step.parameters])
    step.optimizer.zero_grad()
    total = torch.zeros(())
    for low, high in zip(lr, hr, strict=True):
        restored = step.base.restore(low, 200)
        term, *_ = step.perceptual_and_gan(restored, high, step.turns(0), step.draws(0))
        total = total + (term + 0.5 * (restored - high).abs().mean()) / 4
    total.backward()
    whole = torch.cat([p.grad.flatten() for p in step.parameters])
    assert (looped - whole).norm() / whole.norm() < 1e-6


def test_stage_two_sees_stage_ones_output_enlarged_bilinearly():
    base = random_base("smoke", 0)
    for name, seed in (("stage1", 0), ("stage2", 1)):
        add_adapter(base.unet, name, SMOKE.stage1.lora, seed)
    activate(base.unet, "stage1")
    lr = pictures(1, 32)
    with torch.no_grad():
        expected = enlarge(base.restore(lr, 200).clamp(0, 1), 2, "bilinear")
    activate(base.unet, "stage2")
    task = StageTwo(base, SMOKE, 200, {})
    torch.testing.assert_close(task.stage2_input(lr), expected)
    assert all(".stage2." in n for n, p in base.named_parameters() if p.requires_grad)


def test_both_stages_train_and_leave_adapter_figures_and_samples(photos, tmp_path):
    figures = train_stage1(SMOKE, photos, tmp_path / "one", tmp_path / "work")
    assert np.isfinite(list(figures.values())).all()
    adapter1 = tmp_path / "one" / "adapter.safetensors"
    train_stage2(SMOKE, photos, adapter1, tmp_path / "two", tmp_path / "work")
    for folder, t in (("one", 200), ("two", 50)):
        rows = read_metrics(tmp_path / folder / "metrics.jsonl")
        assert rows[-1]["loss_total"] > 0 and "images_per_s" in rows[-1]
        assert list((tmp_path / folder / "samples").glob("*.png"))
        adapter = tmp_path / folder / "adapter.safetensors"
        assert load_adapter(adapter, load_base(SMOKE.base).unet, "x") == t
    assert not list((tmp_path / "work").iterdir()), "success removes the checkpoints"


class Killed(BaseException):
    pass


@pytest.mark.parametrize("kill_after", [3, 11])
def test_killed_run_goes_on_and_ends_bit_identical(photos, tmp_path, monkeypatch, kill_after):
    train_stage1(SMOKE, photos, tmp_path / "whole", tmp_path / "work1")
    original = AdversarialStep.accumulate

    def dying(self, lr, hr, images_seen, *more):
        if images_seen >= kill_after:
            raise Killed
        return original(self, lr, hr, images_seen, *more)

    with monkeypatch.context() as patch:
        patch.setattr(AdversarialStep, "accumulate", dying)
        with pytest.raises(Killed):
            train_stage1(SMOKE, photos, tmp_path / "resumed", tmp_path / "work2")
    assert not (tmp_path / "resumed").exists()
    train_stage1(SMOKE, photos, tmp_path / "resumed", tmp_path / "work2")
    file = "adapter.safetensors"
    whole, resumed = (tmp_path / d / file for d in ("whole", "resumed"))
    assert whole.read_bytes() == resumed.read_bytes()


def test_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(photos, tmp_path, monkeypatch):
    original = AdversarialStep.accumulate

    def exploding(self, lr, hr, images_seen, *more):
        losses = original(self, lr, hr, images_seen, *more)
        return losses | {"loss_l1": torch.tensor(float("nan"))} if images_seen >= 12 else losses

    monkeypatch.setattr(AdversarialStep, "accumulate", exploding)
    with pytest.raises(TrainingError, match="loss_l1 is not finite after 16 images"):
        train_stage1(SMOKE, photos, tmp_path / "out", tmp_path / "work")
    assert list((tmp_path / "work").glob("*/checkpoints/0000000008/state.json"))


def test_learning_canary():
    """Some steps on one fixed batch must halve the loss: a broken gradient path would not."""
    lora = SMOKE.stage1.lora.model_copy(update={"rank": 32})
    step = step_on(changed("stage1", lr=3e-3, ema=0.0, lora=lora))
    hr = torch.stack([torch.from_numpy(scene(i, 32)).permute(2, 0, 1) / 255 for i in range(2)])
    lr = torch.nn.functional.avg_pool2d(hr, 2).repeat_interleave(2, 2).repeat_interleave(2, 3)
    first = step.accumulate(lr, hr, 0, 1.0)["loss_l1"]
    for _ in range(150):
        step.apply(1.0)
        last = step.accumulate(lr, hr, 0, 1.0)["loss_l1"]
    assert last < 0.5 * first, (first, last)


def test_a_mesh_counts_by_its_weight():
    hr = pictures(2, 32)
    rows = torch.zeros(32)
    rows[::4] = 0.1
    meshed = hr + rows[:, None]

    def total(weight):
        loss = SMOKE.stage1.loss.model_copy(update={"mesh": weight})
        found, losses = step_on(changed("stage1", loss=loss)).pixel_losses(meshed, hr)
        assert ("loss_mesh" in losses) == (weight > 0)
        return found

    excess = mesh_excess(meshed, hr, 8)
    assert excess > 0
    torch.testing.assert_close(total(2.0) - total(0.0), 2 * excess)
