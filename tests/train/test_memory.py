"""Memory that is not there: what a training that runs out of it says, and whether it is true."""

import pytest
import torch

from tests.train.test_stages import step_on
from tudsr.errors import TrainingError
from tudsr.model.adapters import adapter_parameters
from tudsr.profile import load_profile
from tudsr.train.adversarial import AdversarialStep
from tudsr.train.memory import estimate, is_out_of_memory
from tudsr.train.stages import train_stage1

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

    def filling(self, lr, hr, images_seen, share):
        if images_seen >= 12:
            raise error
        return original(self, lr, hr, images_seen, share)

    monkeypatch.setattr(AdversarialStep, "accumulate", filling)
    with pytest.raises(TrainingError) as said:
        train_stage1(SMOKE, photos, tmp_path / "out", tmp_path / "work")
    for words in ("ran out of memory on cpu", "stage1.batch from 2 to 1", "accumulate 4", "GiB"):
        assert words in str(said.value)
    assert list(tmp_path.glob("work/*/checkpoints/0000000008/state.json"))


def test_a_real_allocation_that_fails_is_recognised():
    with pytest.raises(RuntimeError) as failed:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(failed.value)
    assert not is_out_of_memory(RuntimeError("shapes cannot be multiplied"))


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
