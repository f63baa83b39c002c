"""The last part of a base's pre-training: whose inputs it sees, that it learns, that it goes on."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tudsr.data.photos import list_photographs
from tudsr.errors import TrainingError
from tudsr.model.base import load_base_folder, random_base, save_base
from tudsr.model.losses import feature_distance
from tudsr.profile import FinishSettings, Profile, load_profile
from tudsr.train.checkpoint import training_inputs
from tudsr.train.finish import EitherStage, FinishingTask, finish_base
from tudsr.train.pretrain import pretrain_base


def profile(**finish: float) -> Profile:
    whole = load_profile("smoke")
    settings = {"images": 16, "batch": 4, "warmup": 0, "checkpoint_every": 8, **finish}
    pretrain = whole.pretrain.model_copy(update={"finish": FinishSettings(**settings)})
    return whole.model_copy(update={"pretrain": pretrain})


@pytest.fixture(scope="module")
def photos():
    return [p.path for p in list_photographs("data") if p.split == "train"][:4]


@pytest.fixture
def start(tmp_path):
    save_base(random_base("smoke", 0), tmp_path / "start", {"name": "x"}, torch.float32)
    return tmp_path / "start"


def weights(folder):
    return load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")


def test_a_batch_is_of_one_stage_and_both_come_up(photos):
    settings = profile()
    data = EitherStage(settings, photos)
    r, n = settings.base.r_px, settings.stage2.n
    sides = [[data[4 * k + i]["hr"].shape[-1] for i in range(4)] for k in range(8)]
    assert all(len(set(batch)) == 1 for batch in sides)
    assert {batch[0] for batch in sides} == {r, n * r}
    never = EitherStage(profile(stage2_share=0.0), photos)
    assert {never[4 * k]["hr"].shape[-1] for k in range(8)} == {r}


def test_the_second_stage_learns_from_its_own_first_result(photos):
    settings = profile(stage2_share=1.0)
    task = FinishingTask(random_base("smoke", 0), settings)
    data = EitherStage(settings, photos)
    lr, hr = (torch.stack([data[i][k] for i in range(2)]) for k in ("lr", "hr"))
    seen = [task._one_chunk(lr, hr, np.random.default_rng(k)) for k in range(8)]
    r = settings.base.r_px
    assert all(a.shape == b.shape == (2, 3, r, r) for a, b in seen)
    assert not seen[0][0].requires_grad
    with torch.no_grad():
        middle = task.base.restore(lr, settings.stage1.timestep).clamp(0, 1)
    whole = torch.nn.functional.interpolate(middle, scale_factor=2, mode="bilinear")
    corners = [whole[..., y : y + r, x : x + r] for y in (0, r) for x in (0, r)]
    assert all(any(torch.equal(a, c) for c in corners) for a, _ in seen)


def test_the_perceptual_error_falls(photos):
    settings = profile(lr=2e-3, stage2_share=0.0)
    task = FinishingTask(random_base("smoke", 0), settings)
    data = EitherStage(settings, photos)
    batch = {k: torch.stack([data[i][k] for i in range(4)]) for k in ("lr", "hr")}

    def distance() -> float:
        with torch.no_grad():
            restored = task.base.restore(batch["lr"], settings.stage1.timestep)
            return float(feature_distance(task.trunk(restored), task.trunk(batch["hr"])))

    before = distance()
    for step in range(40):
        task.update(batch, step * 4, 1.0)
    assert distance() < 0.8 * before


def test_stopped_and_resumed_it_ends_where_an_undisturbed_run_does(photos, start, tmp_path):
    settings = profile()
    whole = finish_base(settings, photos, start, tmp_path / "whole", tmp_path / "w1")

    class Stop:
        def log(self, seen, figures):
            if seen >= 12:
                raise TrainingError("stopped by the test")

        def picture(self, *_):
            raise AssertionError("no pictures here")

    with pytest.raises(TrainingError, match="by the test"):
        finish_base(settings, photos, start, tmp_path / "again", tmp_path / "w2", [Stop()])
    again = finish_base(settings, photos, start, tmp_path / "again", tmp_path / "w2")
    one, other = weights(whole), weights(again)
    assert all(torch.equal(one[k], other[k]) for k in one)
    assert load_base_folder(again).info["finishing"]["settings"]["images"] == 16


def test_how_often_is_saved_and_told_does_not_decide_a_training(photos, tmp_path, monkeypatch):
    """Neither in the first part nor in the last."""
    found: list[str] = []

    def noted(settings, files, running):
        found.append(training_inputs(settings, files, running).key)
        return training_inputs(settings, files, running)

    for module in ("pretrain", "finish"):
        monkeypatch.setattr(f"tudsr.train.{module}.training_inputs", noted)
    asked = profile(checkpoint_every=3)
    rarely = asked.pretrain.model_copy(update={"checkpoint_every": 7, "log_every": 5})
    for each in (profile(), asked.model_copy(update={"pretrain": rarely})):
        pretrain_base(each, photos, tmp_path / "out", tmp_path / "work")
    assert found[0] == found[2] and found[1] == found[3] != found[0]


def test_a_mesh_counts_by_its_weight(photos):
    def losses(weight: float) -> dict[str, torch.Tensor]:
        settings = profile(mesh=weight)
        data = EitherStage(settings, photos)
        batch = {k: torch.stack([data[i][k] for i in range(4)]) for k in ("lr", "hr")}
        return FinishingTask(random_base("smoke", 0), settings).update(batch, 0, 1.0)

    without, against = losses(0.0), losses(2.0)
    assert "loss_mesh" not in without
    assert against["loss_mesh"] > 0
    added = against["loss_total"] - without["loss_total"]
    torch.testing.assert_close(added, 2 * against["loss_mesh"], rtol=1e-3, atol=1e-5)


def test_pretraining_ends_with_it_when_the_profile_asks(photos, tmp_path):
    plain = pretrain_base(profile(images=0), photos, tmp_path / "plain", tmp_path / "w")
    both = pretrain_base(profile(), photos, tmp_path / "both", tmp_path / "w2")
    assert "finishing" not in load_base_folder(plain).info
    info = load_base_folder(both).info
    assert {"pretraining", "finishing"} <= info.keys()
    one, other = weights(plain), weights(both)
    assert not all(torch.equal(one[k], other[k]) for k in one)


class Listener:
    """Notes the second part's rows; ends training at one of them."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at, self.first, self.second = stop_at, [], []

    def log(self, seen, figures):
        (self.second if "loss_l1" in figures else self.first).append(seen)
        if self.second == [*range(4, (self.stop_at or 0) + 1, 4)] != []:
            raise TrainingError("stopped by the test")

    def picture(self, *_):
        raise AssertionError("no pictures here")


def test_stopped_in_the_second_part_it_does_not_train_the_first_anew(photos, tmp_path):
    asked = profile(checkpoint_every=4)
    pretrain = asked.pretrain.model_copy(update={"log_every": 4})
    asked = asked.model_copy(update={"pretrain": pretrain})
    whole = pretrain_base(asked, photos, tmp_path / "whole", tmp_path / "w1")
    with pytest.raises(TrainingError, match="by the test"):
        pretrain_base(asked, photos, tmp_path / "out", tmp_path / "w2", [Listener(stop_at=8)])
    again = pretrain_base(asked, photos, tmp_path / "out", tmp_path / "w2", [told := Listener()])
    assert (told.first, told.second) == ([], [8, 12, 16])
    one, other = weights(whole), weights(again)
    assert all(torch.equal(one[k], other[k]) for k in one)


def test_the_window_is_of_the_asked_side_and_the_same_place_of_both(photos):
    task = FinishingTask(random_base("smoke", 0), profile(window_px=32))
    picture = torch.rand(1, 3, 64, 64)
    one, other = task._window(picture, picture + 1, np.random.default_rng(0))
    assert one.shape[2:] == (32, 32)
    torch.testing.assert_close(one + 1, other)
