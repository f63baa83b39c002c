"""Memory that is not there: what a training that runs out of it says, and whether it is true."""

import pytest
import torch
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from tests.train.test_stages import changed, step_on
from tudsr.errors import TrainingError
from tudsr.model.adapters import adapter_parameters
from tudsr.profile import load_profile
from tudsr.train.adversarial import AdversarialStep
from tudsr.train.memory import estimate, is_out_of_memory
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


def kept_by(module, images):
    """Bytes that autograd keeps of a real forward pass, without the module's own and the images."""
    own = {
        t.untyped_storage().data_ptr() for t in [*module.parameters(), *module.buffers(), images]
    }
    kept: dict[int, torch.Tensor] = {}

    def note(value):
        kept[value.untyped_storage().data_ptr()] = value
        return value

    with torch.autograd.graph.saved_tensors_hooks(note, lambda v: v):
        module(images)
    return sum(v.untyped_storage().nbytes() for k, v in kept.items() if k not in own)


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
    trunks = (small.trunk, small.trunk, step.critic.trunk)  # pictures, edges, the critic's view
    kept = sum(kept_by(trunk, images.clone().requires_grad_()) for trunk in trunks)
    assert told.losses == pytest.approx(kept, rel=0.01)
    frozen = sum(p.nbytes for p in step.critic.trunk.parameters())
    more = sum(p.nbytes for p in step.heads) - sum(p.nbytes for p in small.heads)
    assert told.state - estimate(small, 64).state == frozen + 4 * more
    assert torch.equal(step.critic.trunk(images)[0], seen[0])


def test_weights_in_bf16_are_estimated_too():
    runtime = SMOKE.runtime.model_copy(update={"precision": "bf16"})
    half = estimate(step_on(SMOKE.model_copy(update={"runtime": runtime})), 32)
    whole = estimate(step_on(SMOKE), 32)
    assert (half.generator, half.losses) == (whole.generator, whole.losses)
    assert half.state < whole.state


def test_the_estimate_is_what_autograd_really_keeps():
    """Against a real forward pass on the CPU, whose saved tensors are added up."""
    step = step_on(SMOKE)
    told = estimate(step, 32)
    own = {p.untyped_storage().data_ptr() for p in step.base.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def note(value):
        kept[value.untyped_storage().data_ptr()] = value
        return value

    latents = step.base.codec.encode(torch.rand(1, 3, 32, 32))
    with torch.autograd.graph.saved_tensors_hooks(note, lambda v: v):
        step.base.unet(latents, 200, step.base.prompt)
    measured = sum(
        v.untyped_storage().nbytes()
        for k, v in kept.items()
        if k not in own and k != latents.untyped_storage().data_ptr()
    )
    assert told.generator == pytest.approx(measured, rel=0.001)
    trained = sum(p.numel() for p in adapter_parameters(step.base.unet, "stage1"))
    assert told.state > 4 * 4 * trained
