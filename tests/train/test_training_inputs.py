"""What a training is: settings, photographs, machine; a checkpoint of another one is refused."""

import json

import pytest
import torch

from tests.train.test_stages import step_on
from tudsr.errors import TrainingError
from tudsr.model.base import random_base, save_base
from tudsr.profile import StageSettings, load_profile
from tudsr.train.checkpoint import newest_checkpoint, save_checkpoint, training_inputs
from tudsr.train.device import running_on
from tudsr.train.stage_inputs import stage_inputs

SMOKE = load_profile("smoke")


def test_a_checkpoint_of_other_settings_is_refused_with_both_values(photos, tmp_path):
    settings = {"stage1": {"lr": 0.001, "lora": {"rank": 4}}, "seed": 0}
    inputs = training_inputs(settings, photos)
    save_checkpoint(tmp_path / "run", 8, {"w": torch.ones(2)}, inputs)
    assert newest_checkpoint(tmp_path / "run", inputs).images_seen == 8
    photos[0].write_bytes(photos[1].read_bytes())
    other = {"stage1": {"lr": 0.002, "lora": {"rank": 8}, "new": True}, "seed": 0}
    with pytest.raises(TrainingError) as said:
        newest_checkpoint(tmp_path / "run", training_inputs(other, photos))
    for words in (
        "stage1.lr 0.001 there, 0.002 now",
        "stage1.lora.rank 4 there, 8 now",
        "stage1.new unset there, true now",
        "photo0.png has changed",
    ):
        assert words in str(said.value)
    assert "seed" not in str(said.value) and "photo1" not in str(said.value)


def test_a_machine_that_lost_its_gpu_does_not_go_on_without_a_word(photos, tmp_path, monkeypatch):
    gpu = {"device": "cuda", "precision": "bf16"}
    cpu = {"device": "cpu", "precision": "bf16"}
    begun = training_inputs({}, photos, gpu)
    save_checkpoint(tmp_path, 8, {"w": torch.ones(2)}, begun)
    assert newest_checkpoint(tmp_path, begun).images_seen == 8
    with pytest.raises(TrainingError, match=r"device cuda there, cpu here\..*RESUME_ANYWHERE=1"):
        newest_checkpoint(tmp_path, training_inputs({}, photos, cpu))
    monkeypatch.setenv("TUDSR_RESUME_ANYWHERE", "1")
    assert newest_checkpoint(tmp_path, training_inputs({}, photos, cpu)).images_seen == 8


def test_a_stage_records_on_what_it_runs(photos):
    running = stage_inputs(SMOKE, "stage1", photos, ()).running
    assert running == running_on(SMOKE.runtime) and running["precision"] == "fp32"
    assert running["device"] in ("cpu", "cuda", "mps")


def test_photographs_of_one_name_in_two_folders_both_count_and_so_does_their_order(tmp_path):
    files = [tmp_path / folder / "a.png" for folder in "xyz"]
    for content, file in enumerate(files):
        file.parent.mkdir()
        file.write_text(str(content))
    before, turned = training_inputs({}, files), training_inputs({}, files[::-1])
    assert list(before.files) == ["a.png", "a.png (2)", "a.png (3)"]
    files[0].write_text("changed")
    assert len({before.key, turned.key, training_inputs({}, files).key}) == 3
    moved = (tmp_path / "x").rename(tmp_path / "moved") / "a.png"
    assert training_inputs({}, [moved, *files[1:]]).key != before.key
    moved.write_text("0")
    assert training_inputs({}, [moved, *files[1:]]).key == before.key


def test_a_base_that_is_imported_again_is_the_same_training(photos, tmp_path):
    """Its base.json holds when; its files and how the UNet's output is read decide."""
    folder = tmp_path / "base"
    save_base(random_base("smoke", 0), folder, {"imported": "2026-01-01"}, torch.float32)
    source = {"source": str(folder), "random_seed": None}
    profile = SMOKE.model_copy(update={"base": SMOKE.base.model_copy(update=source)})

    def key(**told: object) -> str:
        recorded = json.loads((folder / "base.json").read_text("utf-8"))
        (folder / "base.json").write_text(json.dumps({**recorded, **told}), "utf-8")
        return stage_inputs(profile, "stage1", photos, ()).key

    first = key()
    assert key(imported="2026-01-02", source="elsewhere") == first != key(preconditioned=False)
    save_base(random_base("smoke", 1), folder, {}, torch.float32)
    other = key()
    assert other != first
    (folder / "base.json").unlink()
    without = stage_inputs(profile, "stage1", photos, ()).key
    (folder / "prompt.safetensors").write_text("another")
    assert stage_inputs(profile, "stage1", photos, ()).key not in (without, first, other)


def test_other_weights_under_the_same_name_are_another_training(photos, tmp_path):
    """Of the losses' trunk, a file, and of the critic's, a folder."""
    losses, critic = tmp_path / "vgg16.safetensors", tmp_path / "dino" / "model.safetensors"
    critic.parent.mkdir()
    for file in (losses, critic):
        file.write_text("as published")
    stage = SMOKE.stage1
    profile = SMOKE.model_copy(
        update={
            "stage1": stage.model_copy(
                update={
                    "loss": stage.loss.model_copy(update={"trunk_path": str(losses)}),
                    "critic": stage.critic.model_copy(update={"trunk_path": str(critic.parent)}),
                }
            )
        }
    )
    keys = [stage_inputs(profile, "stage1", photos, ()).key]
    for file in (losses, critic):
        file.write_text("changed")
        keys.append(stage_inputs(profile, "stage1", photos, ()).key)
    assert len(set(keys)) == 3
    assert "trunk" not in str(stage_inputs(SMOKE, "stage1", photos, ()).files)


def test_a_critic_from_the_hub_counts_by_its_commit(photos, tmp_path, monkeypatch):
    """The branch main is a moving name."""
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / "models--facebook--dinov2-base"
    (repository / "refs").mkdir(parents=True)
    critic = SMOKE.stage1.critic.model_copy(update={"trunk": "dinov2"})
    stage = SMOKE.stage1.model_copy(update={"critic": critic})
    profile = SMOKE.model_copy(update={"stage1": stage})
    found = [stage_inputs(profile, "stage1", photos, ())]
    for commit in ("a" * 40, "b" * 40):
        (repository / "snapshots" / commit).mkdir(parents=True)
        (repository / "snapshots" / commit / "config.json").write_text("{}")
        (repository / "refs" / "main").write_text(commit)
        found.append(stage_inputs(profile, "stage1", photos, ()))
    assert [i.files.get("critic.trunk") for i in found] == [None, "a" * 40, "b" * 40]
    assert len({i.key for i in found}) == 3


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.9)])
def test_both_optimizers_have_the_betas_that_are_set(photos, betas):
    assert SMOKE.stage1.betas == (0.9, 0.999)
    profile = SMOKE.model_copy(update={"stage1": SMOKE.stage1.model_copy(update={"betas": betas})})
    step = step_on(profile)
    for optimizer in (step.optimizer, step.critic_optimizer):
        assert [group["betas"] for group in optimizer.param_groups] == [betas]
    changed = stage_inputs(profile, "stage1", photos, ()).key
    assert (changed != stage_inputs(SMOKE, "stage1", photos, ()).key) == (betas != (0.9, 0.999))
    with pytest.raises(ValueError, match="less than 1"):
        StageSettings(timestep=50, images=1, betas=(0.9, 1.0))
