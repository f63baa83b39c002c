"""Memory that is not there: what a training that runs out of it says, and whether it is true."""

import re
from functools import partial

import pytest
import torch
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from tests.train.test_stages import changed, step_on
from tudsr.errors import TrainingError
from tudsr.model.adapters import adapter_parameters
from tudsr.model.out_of_memory import as_memory_error, is_out_of_memory
from tudsr.profile import StageSettings, load_profile
from tudsr.train.adversarial import AdversarialStep
from tudsr.train.device import autocast
from tudsr.train.memory import _remedy, estimate
from tudsr.train.stages import train_stage1, train_stage2

SMOKE = load_profile("smoke")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
    ],
)
def test_out_of_memory_says_what_to_lower_and_keeps_the_checkpoint(
    photos, tmp_path, monkeypatch, error
):
    original = AdversarialStep.accumulate

    def filling(self, lr, hr, images_seen, *more):
        if images_seen >= 12:
            raise error
        return original(self, lr, hr, images_seen, *more)

    monkeypatch.setattr(AdversarialStep, "accumulate", filling)
    with pytest.raises(TrainingError) as said:
        train_stage1(SMOKE, photos, tmp_path / "out", tmp_path / "work")
    for words in ("ran out of memory on cpu", "stage1.batch from 2 to 1", "accumulate 4", "GiB"):
        assert words in str(said.value)
    assert list(tmp_path.glob("work/*/checkpoints/0000000008/state.json"))


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_out_of_memory_before_the_first_picture_says_so_and_estimates_nothing(
    photos, tmp_path, monkeypatch, stage
):
    train_stage1(SMOKE, photos, tmp_path / "one", tmp_path / "work")

    def failing(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(AdversarialStep, "__init__", failing)
    with pytest.raises(TrainingError) as said:
        if stage == "stage1":
            train_stage1(SMOKE, photos, tmp_path / "out", tmp_path / "work")
        else:
            adapter1 = tmp_path / "one" / "adapter.safetensors"
            train_stage2(SMOKE, photos, adapter1, tmp_path / "out", tmp_path / "work")
    for words in (f"{stage} ran out of memory before its first", f"{stage}.lora.rank", "20.00 GiB"):
        assert words in str(said.value)
    assert "estimate" not in str(said.value)


def test_a_real_allocation_that_fails_is_recognised():
    with pytest.raises(RuntimeError) as failed:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(failed.value)
    assert not is_out_of_memory(RuntimeError("shapes cannot be multiplied"))


@pytest.mark.parametrize(
    "message",
    [
        "MPS backend out of memory (MPS allocated: 9.05 GB, other allocations: 1.14 GB)",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "CUDA error: out of memory",
    ],
)
def test_what_other_allocators_say_is_recognised(message):
    assert is_out_of_memory(RuntimeError(message))
    assert not is_out_of_memory(OSError(message))
    with pytest.raises(MemoryError, match=re.escape(message.splitlines()[0])), as_memory_error():
        raise RuntimeError(message)


def remedy(stage="stage1", precision="fp32", checkpointed=False, critic=None, **settings):
    """What a training with these settings is told to lower."""
    critic = SMOKE.stage1.critic.model_copy(update=critic or {})
    runtime = SMOKE.runtime.model_copy(update={"precision": precision})
    step = step_on(changed("stage1", critic=critic).model_copy(update={"runtime": runtime}))
    given = {"gradient_checkpointing": checkpointed, **settings}
    return _remedy(stage, StageSettings(timestep=50, images=1, **given), step)


def test_what_is_low_already_is_not_named():
    told = remedy(batch=2, accumulate=2, critic={"trunk": "random_eighth"})
    for words in (
        "stage1.batch from 2 to 1 with stage1.accumulate 4, which trains the same",
        "set stage1.gradient_checkpointing; set runtime.precision to bf16",
        "smaller stage1.critic.trunk",
        "lower stage1.lora.rank",
        "base.r_px",
    ):
        assert words in told
    assert "Lowering n" not in told
    told = remedy(precision="bf16", checkpointed=True)
    for words in ("batch", "gradient_checkpointing", "precision", "critic.trunk"):
        assert words not in told


@pytest.mark.parametrize("batch", [2, 3, 4])
@pytest.mark.parametrize("accumulate", [1, 2, 4, 8])
def test_the_batch_that_is_advised_is_accepted_and_trains_the_same_where_it_says_so(
    batch, accumulate
):
    """Of whole pictures; an update of single chunks would get others of one picture instead."""
    told = remedy("stage2", n=2, batch=batch, accumulate=accumulate)
    same = "which trains the same" in told
    assert same == (accumulate >= 4)
    assert f"stage2.batch from {batch} to 1" in told and "chunks go one by one" in told
    advised = batch * accumulate if same else accumulate
    assert (f"stage2.accumulate {advised}" in told) == same
    StageSettings(timestep=50, images=1, n=2, batch=1, accumulate=advised)


def kept_by(function, module, *inputs):
    """Bytes that autograd keeps of a real call, without the module's own and the inputs."""
    own = {
        t.untyped_storage().data_ptr() for t in [*module.parameters(), *module.buffers(), *inputs]
    }
    kept: dict[int, torch.Tensor] = {}

    def note(value):
        kept[value.untyped_storage().data_ptr()] = value
        return value

    with torch.autograd.graph.saved_tensors_hooks(note, lambda v: v):
        function(*inputs)
    return sum(v.untyped_storage().nbytes() for k, v in kept.items() if k not in own)


def kept_by_losses(step):
    """By one real evaluation of a generator's losses at 64 pixels, of the turn that keeps most."""
    parts = torch.nn.ModuleList([step.trunk, step.dists, step.critic.trunk, step.critic.heads])
    found = []
    for seen in {step.turns(seen): seen for seen in range(16)}.values():
        loss = partial(step.generator_loss, images_seen=seen, rng=step.draws(0))
        restored, hr = torch.rand(2, 1, 3, 64, 64)
        found.append(kept_by(loss, parts, restored.requires_grad_(), hr))
    return max(found)


@pytest.mark.parametrize(
    ("precision", "in_turns", "augmented"),
    [("fp32", False, False), ("fp32", True, True), ("bf16", False, True)],
)
def test_the_estimate_of_the_losses_is_what_autograd_really_keeps(precision, in_turns, augmented):
    """Trunk, DISTS, heads and the terms on pixels; of an augmented view the critic's pass too."""
    thin = {"trunk": "random_eighth"}
    weights = {"l1_only_images": 0, "lattice": 1.0, "mesh": 1.0, "alternate_edges": in_turns}
    loss = SMOKE.stage1.loss.model_copy(update={**weights, **thin})
    critic = SMOKE.stage1.critic.model_copy(update={"diff_augment": augmented, **thin})
    runtime = {"runtime": SMOKE.runtime.model_copy(update={"precision": precision})}
    step = step_on(changed("stage1", loss=loss, critic=critic).model_copy(update=runtime))
    assert step.critic_sees_for_itself == augmented
    assert estimate(step, 64).losses == kept_by_losses(step)


def test_the_estimate_counts_a_critic_that_sees_for_itself(tmp_path):
    """DINOv3's blocks, and its passes before and after are what they would have been."""
    heads = {"num_attention_heads": 2, "intermediate_size": 64, "num_register_tokens": 4}
    vit = DINOv3ViTModel(DINOv3ViTConfig(hidden_size=32, num_hidden_layers=3, **heads))
    vit.save_pretrained(tmp_path)
    small = step_on(SMOKE)
    change = {"trunk": "dinov3", "trunk_path": str(tmp_path), "levels": (1, 2, 3)}
    critic = SMOKE.stage1.critic.model_copy(update=change)
    step = step_on(changed("stage1", critic=critic))
    images = torch.rand(1, 3, 64, 64)
    told, seen = estimate(step, 64), step.critic.trunk(images)
    assert estimate(step, 64) == told
    assert told.losses == pytest.approx(kept_by_losses(step), rel=0.01)
    frozen = sum(p.nbytes for p in step.critic.trunk.parameters())
    more = sum(p.nbytes for p in step.heads) - sum(p.nbytes for p in small.heads)
    assert told.state - estimate(small, 64).state == frozen + 4 * more
    assert torch.equal(step.critic.trunk(images)[0], seen[0])


@pytest.mark.parametrize(("precision", "within"), [("fp32", 0.001), ("bf16", 0.005)])
def test_the_estimate_of_the_unet_is_what_autograd_really_keeps(precision, within):
    runtime = {"runtime": SMOKE.runtime.model_copy(update={"precision": precision})}
    step = step_on(SMOKE.model_copy(update=runtime))
    told = estimate(step, 32)
    latents = step.base.codec.encode(torch.rand(1, 3, 32, 32))
    with autocast(step.device, step.runtime):
        measured = kept_by(lambda z: step.base.unet(z, 200, step.base.prompt), step.base, latents)
    assert told.generator == pytest.approx(measured, rel=within)
    trained = sum(p.numel() for p in adapter_parameters(step.base.unet, "stage1"))
    assert told.state > 4 * 4 * trained
