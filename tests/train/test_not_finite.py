"""Numbers that are none stop a training, and are never saved."""

import pytest
import torch

from tudsr.errors import TrainingError
from tudsr.profile import load_profile
from tudsr.train.adversarial import AdversarialStep
from tudsr.train.meter import FiniteCheck
from tudsr.train.stages import train_stage1

SMOKE = load_profile("smoke")


def test_a_loss_that_was_no_number_between_two_rows_is_named_and_never_saved(
    photos, tmp_path, monkeypatch
):
    original = AdversarialStep.accumulate

    def once(self, lr, hr, images_seen, *more):
        losses = original(self, lr, hr, images_seen, *more)
        return losses | {"loss_gan": torch.tensor(float("inf"))} if images_seen == 8 else losses

    monkeypatch.setattr(AdversarialStep, "accumulate", once)
    few = {"images": 32, "log_every": 32, "checkpoint_every": 8}
    profile = SMOKE.model_copy(update={"stage1": SMOKE.stage1.model_copy(update=few)})
    with pytest.raises(TrainingError, match="loss_gan is not finite after 12 images"):
        train_stage1(profile, photos, tmp_path / "out", tmp_path / "work")
    saved = sorted(p.name for p in tmp_path.glob("work/*/checkpoints/*"))
    assert saved == ["0000000008"]


def test_of_losses_that_are_no_numbers_those_that_were_first_are_named():
    """After an update with one of them the weights are spoilt, and with them every loss."""
    check = FiniteCheck("stage 1", "checkpoints")
    good, bad = torch.ones(()), torch.tensor(float("nan"))
    check.note(4, {"loss_l1": good, "loss_gan": good, "loss_total": good})
    check.note(8, {"loss_l1": good, "loss_gan": bad, "loss_total": bad})
    check.note(12, {"loss_l1": bad, "loss_gan": bad, "loss_total": bad})
    with pytest.raises(TrainingError) as said:
        check.check()
    assert "stage 1: loss_gan, loss_total is not finite after 8 images" in str(said.value)
    assert "loss_l1" not in str(said.value)


def test_weights_spoilt_by_a_gradient_are_never_saved_though_the_loss_was_fine(
    photos, tmp_path, monkeypatch
):
    apply = AdversarialStep.apply
    count = []

    def overflowing(self, rate):
        count.append(rate)
        if len(count) == 4:
            self.parameters[0].grad[0] = float("nan")
        apply(self, rate)

    monkeypatch.setattr(AdversarialStep, "apply", overflowing)
    with pytest.raises(TrainingError, match=r"not finite after 16 images, such as lora\.0"):
        train_stage1(SMOKE, photos, tmp_path / "out", tmp_path / "work")
    assert [p.name for p in tmp_path.glob("work/*/checkpoints/*")] == ["0000000008"]
    assert not (tmp_path / "out").exists()
