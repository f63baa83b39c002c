"""The looped chunk: exact gradients (goal T3) and memory that does not grow with N (goal T1)."""

import copy

import pytest
import torch
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from benchmarks.live_memory import LiveMemory
from benchmarks.looped_chunk import measure
from tests.model.thin_trunk import thin_dists, thin_trunk
from tests.train.test_stages import SMOKE, pictures
from tudsr.model.adapters import activate, add_adapter
from tudsr.model.base import random_base
from tudsr.model.critic import Critic
from tudsr.profile import CriticSettings, StageSettings
from tudsr.train.chunks import chunk, unchunk
from tudsr.train.stages import STAGE1, STAGE2, StageTwo

TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-10}
# Cut into windows, other sums are rounded, which in float32 decides about ReLUs at their kinks: one
# uncut graph in fp32 is as far from itself in fp64 (docs/log.md).
CUT_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-10}


def stage_two(
    n: int,
    dtype: torch.dtype,
    whole: bool = False,
    r_px: int = 32,
    augment: bool = False,
    arch: str = "smoke",
) -> StageTwo:
    """Stage 2 on a random base in ``dtype``, every loss on, adapters that are not the identity.

    Above N = 2 and beside SD's classes the trunks have an eighth of the channels: sixteen chunks
    and more of the whole VGG16 take a minute, and the sums are the same.
    """
    trunk = "random" if n <= 2 and arch == "smoke" else "random_eighth"
    weights = {"trunk": trunk, "l1_only_images": 0, "lattice": 1.0, "mesh": 1.0}
    loss = SMOKE.stage2.loss.model_copy(update=weights)
    critic = SMOKE.stage2.critic.model_copy(update={"trunk": trunk, "diff_augment": augment})
    change = {"n": n, "accumulate": n * n, "loss": loss, "critic": critic}
    change["whole_image_losses"] = whole
    stage = SMOKE.stage2.model_copy(update=change)
    sized = SMOKE.base.model_copy(update={"r_px": r_px})
    profile = SMOKE.model_copy(update={"stage2": stage, "base": sized})
    base = random_base(arch, 0)
    for seed, name in enumerate((STAGE1, STAGE2)):
        add_adapter(base.unet, name, profile.stage2.lora, seed)
    activate(base.unet, STAGE2)
    task = StageTwo(base, profile, profile.stage1.timestep, {})
    step = task.step
    with torch.no_grad():
        for parameter in step.parameters:
            parameter.normal_(0, 0.05, generator=torch.Generator().manual_seed(1))
    base.to(dtype)
    step.trunk = copy.deepcopy(step.trunk).to(dtype)
    step.critic._trunk = [step.trunk]
    step.critic.to(dtype)
    step.dists.to(dtype)
    return task


def gradient(task: StageTwo) -> torch.Tensor:
    found = [p.grad.flatten() for p in task.step.parameters if p.grad is not None]
    assert len(found) == len(task.step.parameters)
    return torch.cat(found)


def seen_by_autograd(task: StageTwo, y_lr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
    """The gradient of the same chunked forward with all chunks in one graph."""

    step, parts = task.step, chunk(y_lr, task.r_px)

    def loss(restored: torch.Tensor, truth: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        return step.generator_loss(restored, truth, 10, rng)[0]

    if task.settings.whole_image_losses:
        made = [step.restored(part, step.draws(10, i)) for i, part in enumerate(parts)]
        losses = [loss(unchunk(made, task.settings.n), hr, step.draws(10, len(parts)))]
    else:
        rngs = [step.draws(10, i) for i in range(len(parts))]
        pairs = zip(parts, chunk(hr, task.r_px), rngs, strict=True)
        losses = [loss(step.restored(part, rng), truth, rng) for part, truth, rng in pairs]
    torch.stack(losses).mean().backward()
    found = gradient(task).clone()
    for parameter in [*task.step.parameters, *task.step.heads]:
        parameter.grad = None
    return found


CASES = [("smoke", 2, False), ("smoke", 2, True), ("smoke", 4, False), ("smoke", 4, True)]
CASES += [("sd21-eighth", 2, False), ("sd21-eighth", 2, True)]
EIGHT = ("smoke", 8, False, torch.float64)


@pytest.mark.parametrize(
    ("arch", "n", "whole", "dtype"), [*((*c, d) for c in CASES for d in TOLERANCE), EIGHT]
)
def test_the_loops_gradient_is_the_uncut_graphs(arch, n, whole, dtype, monkeypatch):
    """Goal T3; on SD's classes the latent is drawn, for each chunk as its position says."""
    task = stage_two(n, dtype, whole, 64 if arch == "sd21-eighth" else 32, arch=arch)
    assert task.settings.latent == "sample"
    batch = {"lr": pictures(1, task.r_px).to(dtype), "hr": pictures(1, n * task.r_px, 1).to(dtype)}
    expected = seen_by_autograd(task, task.stage2_input(batch["lr"]), batch["hr"])
    found: list[torch.Tensor] = []
    monkeypatch.setattr(task.step, "apply", lambda rate: found.append(gradient(task)))
    task.update(batch, 10, 1.0)
    difference = (found[0] - expected).norm() / expected.norm()
    assert len(found) == 1
    assert expected.norm() > 0
    assert difference < TOLERANCE[dtype]


@pytest.mark.parametrize(
    ("n", "augment", "dtype"),
    [(2, True, torch.float64), (4, False, torch.float64), (2, True, torch.float32)],
)
def test_window_by_window_the_whole_pictures_gradient_is_the_same(n, augment, dtype, monkeypatch):
    """256 pixels are more than a window of 224; every term is on."""
    monkeypatch.setattr("tudsr.model.losses._shared_trunk", lambda *_: thin_trunk())
    monkeypatch.setattr("tudsr.train.adversarial.Dists", thin_dists)
    task = stage_two(n, dtype, True, 256 // n, augment)
    batch = {"lr": pictures(1, task.r_px).to(dtype), "hr": pictures(1, 256, 1).to(dtype)}
    expected = seen_by_autograd(task, task.stage2_input(batch["lr"]), batch["hr"])
    found: list[torch.Tensor] = []
    monkeypatch.setattr(task.step, "apply", lambda rate: found.append(gradient(task)))
    monkeypatch.setattr(task.step, "backward", None)  # that of the uncut picture
    losses = task.update(batch, 10, 1.0)
    assert (found[0] - expected).norm() < CUT_TOLERANCE[dtype] * expected.norm()
    for name in ("total", "l1", "lattice", "dists", "dists_edges", "gan", "critic"):
        assert losses[f"loss_{name}"] > 0


def test_a_transformer_sees_the_whole_picture_beside_windows(tmp_path, monkeypatch):
    """A critic that cannot be cut: the other losses are, and the gradient is the same."""
    heads = {"num_attention_heads": 2, "intermediate_size": 64, "num_register_tokens": 4}
    vit = DINOv3ViTModel(DINOv3ViTConfig(hidden_size=32, num_hidden_layers=3, **heads))
    vit.save_pretrained(tmp_path)
    monkeypatch.setattr("tudsr.model.losses._shared_trunk", lambda *_: thin_trunk())
    monkeypatch.setattr("tudsr.train.adversarial.Dists", thin_dists)
    task = stage_two(2, torch.float64, True, 128)
    settings = CriticSettings(trunk="dinov3", trunk_path=str(tmp_path), levels=(1, 2, 3), width=8)
    critic = Critic(settings, 0).eval().double()
    critic.trunk.double()
    task.step.critic, task.step.heads = critic, list(critic.heads.parameters())
    batch = {"lr": pictures(1, 128).double(), "hr": pictures(1, 256, 1).double()}
    expected = seen_by_autograd(task, task.stage2_input(batch["lr"]), batch["hr"])
    found: list[torch.Tensor] = []
    monkeypatch.setattr(task.step, "apply", lambda rate: found.append(gradient(task)))
    losses = task.update(batch, 10, 1.0)
    assert (found[0] - expected).norm() < TOLERANCE[torch.float64] * expected.norm()
    assert losses["loss_critic"] > 0
    assert all(p.grad is not None for p in task.step.heads)


def test_losses_on_the_whole_picture_see_across_the_borders():
    """A step on a chunk border is a picture's own error: the two kinds of gradient differ there."""
    found = {}
    for whole in (False, True):
        task = stage_two(2, torch.float32, whole)
        y_lr, hr = pictures(1, 64), pictures(1, 64, 1)
        found[whole] = seen_by_autograd(task, y_lr, hr)
    assert (found[True] - found[False]).norm() > 0.01 * found[False].norm()


def test_whole_picture_losses_need_whole_pictures():
    with pytest.raises(ValueError, match="set accumulate to 16"):
        StageSettings(timestep=50, images=1, n=4, accumulate=8, whole_image_losses=True)


@pytest.mark.parametrize(("arch", "r_px"), [("smoke", 32), ("sd21-eighth", 64)])
def test_checkpointed_gradients_are_the_same_and_less_is_kept(arch, r_px):
    found, kept = [], []
    for checkpointed in (False, True):
        task = stage_two(1, torch.float32, r_px=r_px, arch=arch)
        if checkpointed:
            task.base.checkpoint_gradients()
        lr, hr = pictures(1, r_px), pictures(1, r_px, 1)
        with LiveMemory() as live:
            restored = task.step.restored(lr, task.step.draws(0))
            kept.append(live.now_bytes)
        del restored
        found.append(seen_by_autograd(task, lr, hr))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-8)
    assert kept[1] < 0.5 * kept[0]


@pytest.fixture(scope="module")
def one_chunk_mib() -> float:
    """SD2.1-base at its true size, N = 1."""
    return measure("sd21", "meta", 512, 1, "looped")["peak_mib"]


def test_memory_is_that_of_one_chunk_at_the_true_size(one_chunk_mib):
    """SD2.1-base on meta tensors, every live tensor counted (goal T1)."""
    four = measure("sd21", "meta", 512, 4, "looped")["peak_mib"]
    native = measure("sd21", "meta", 512, 4, "native")["peak_mib"]
    assert four / one_chunk_mib <= 1.05
    assert four / native <= 0.08


def test_memory_is_that_of_one_chunk_on_the_cpu():
    """A real step in bf16, all of it at an eighth of the channels; at the true size see above.

    From the second chunk on the gradients of those before are there beside a graph, so N = 3 is
    held against N = 2, not 1; and weights' gradients weigh more here than at 512 pixels.
    """
    two, three = (measure("sd21-eighth", "cpu", 64, n, "looped")["peak_mib"] for n in (2, 3))
    native = measure("sd21-eighth", "cpu", 64, 3, "native")["peak_mib"]
    assert three / two <= 1.05
    assert three / native <= 0.5


def test_checkpointing_needs_less(one_chunk_mib):
    less = measure("sd21", "meta", 512, 1, "looped, checkpointed")["peak_mib"]
    assert less < 0.7 * one_chunk_mib
