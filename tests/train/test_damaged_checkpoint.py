"""A newest checkpoint that is not whole: the one before is gone on from, to the same bytes."""

import shutil

import pytest
from PIL import Image

from tests.conftest import scene
from tudsr.profile import load_profile
from tudsr.train.adversarial import AdversarialStep
from tudsr.train.stages import train_stage1

SMOKE = load_profile("smoke")
PROFILE = SMOKE.model_copy(
    update={"stage1": SMOKE.stage1.model_copy(update={"checkpoint_every": 4})}
)
ADAPTER = "adapter.safetensors"


def flip_a_bit(checkpoint):
    state = checkpoint / "state.safetensors"
    data = bytearray(state.read_bytes())
    data[len(data) // 2] ^= 1
    state.write_bytes(data)


def cut(checkpoint):
    state = checkpoint / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-100])


def remove_weights(checkpoint):
    (checkpoint / "state.safetensors").unlink()


def remove_marker(checkpoint):
    (checkpoint / "state.json").unlink()


class Killed(BaseException):
    pass


def training(folder, photos, work, before_each):
    """Train stage 1 into ``folder``, ``before_each`` being told of every micro-batch."""
    original = AdversarialStep.accumulate

    def told(self, lr, hr, images_seen, *more):
        before_each(images_seen)
        return original(self, lr, hr, images_seen, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AdversarialStep, "accumulate", told)
        train_stage1(PROFILE, photos, folder, work)
    return folder / ADAPTER


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Photographs, the adapter of a run left alone, and what one killed after 12 images left."""
    folder = tmp_path_factory.mktemp("killed")
    photos = [folder / f"{i}.png" for i in range(3)]
    for seed, photo in enumerate(photos):
        Image.fromarray(scene(seed)).save(photo)
    whole = training(folder / "whole", photos, folder / "elsewhere", lambda seen: None)

    def dying(images_seen):
        if images_seen >= 12:
            raise Killed

    with pytest.raises(Killed):
        training(folder / "out", photos, folder / "work", dying)
    return photos, whole, folder / "work"


@pytest.mark.parametrize("damage", [flip_a_bit, cut, remove_weights, remove_marker])
def test_the_one_before_is_found_and_training_ends_with_the_same_bytes(killed, tmp_path, damage):
    photos, whole, left = killed
    work = shutil.copytree(left, tmp_path / "work")
    older, newest = sorted(work.glob("*/checkpoints/*"))
    assert (older.name, newest.name) == ("0000000008", "0000000012")
    damage(newest)
    seen: list[int] = []
    adapter = training(tmp_path / "out", photos, work, seen.append)
    assert seen[0] == 8
    assert adapter.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("damage", [flip_a_bit, remove_marker])
def test_with_both_damaged_training_starts_anew_and_keeps_what_it_saves(killed, tmp_path, damage):
    photos, whole, left = killed
    work = shutil.copytree(left, tmp_path / "work")
    for checkpoint in work.glob("*/checkpoints/*"):
        damage(checkpoint)

    def dying(images_seen):
        if images_seen >= 4:
            raise Killed

    with pytest.raises(Killed):
        training(tmp_path / "out", photos, work, dying)
    seen: list[int] = []
    adapter = training(tmp_path / "out", photos, work, seen.append)
    assert seen[0] == 4
    assert adapter.read_bytes() == whole.read_bytes()


def test_without_damage_the_newest_is_taken(killed, tmp_path):
    photos, whole, left = killed
    seen: list[int] = []
    work = shutil.copytree(left, tmp_path / "work")
    adapter = training(tmp_path / "out", photos, work, seen.append)
    assert seen[0] == 12
    assert adapter.read_bytes() == whole.read_bytes()
