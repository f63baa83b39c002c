"""Training pairs from big sets: the same samples whatever shares them out, resumed or not."""

import shutil

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Subset

from tests.conftest import scene
from tests.data import s3_server
from tests.data.bigset import encoded, write_tar
from tudsr.data.index import ensure_index
from tudsr.profile import load_profile
from tudsr.train.adversarial import AdversarialStep
from tudsr.train.pairs import TrainingPairs
from tudsr.train.stage_inputs import stage_inputs
from tudsr.train.stages import train_stage1

SMOKE = load_profile("smoke")


@pytest.fixture
def index(tmp_path):
    """12 pictures of 80 pixels in two shards; one of them is cut off."""
    for shard in range(2):
        data = {f"{n}.png": encoded(Image.fromarray(scene(n + 6 * shard, 80))) for n in range(6)}
        if shard:
            data["2.png"] = data["2.png"][:200]
        write_tar(tmp_path / "set" / f"{shard}.tar", data)
    return ensure_index([str(tmp_path / "set")])


def pairs_of(index, share=0.5):
    data = SMOKE.data.model_copy(update={"max_bad_share": share})
    return TrainingPairs([index], SMOKE.model_copy(update={"data": data}), 32, (2, 4), 5)


def batches(index, indices, workers, size=2):
    data = Subset(pairs_of(index), indices)
    return [b["lr"].numpy().tobytes() for b in DataLoader(data, size, num_workers=workers)]


def test_workers_and_resuming_do_not_change_what_is_seen(index):
    whole = batches(index, range(40), workers=0)
    assert batches(index, range(40), workers=2) == whole
    assert batches(index, range(14, 40), workers=1) == whole[7:]
    assert len(set(whole)) == 20


def test_a_bucket_gives_workers_what_the_folder_gives(index, tmp_path, monkeypatch):
    """s3fs has threads, which a fork does not copy: each worker needs a client of its own."""
    local = batches(index, range(16), workers=0)
    with s3_server.bucket(tmp_path / "s3", monkeypatch) as (folder, requests):
        shutil.copytree(tmp_path / "set", folder / "set")
        remote = ensure_index(["s3://sets/set"])
        assert batches(remote, range(16), workers=2) == local
        assert sum("set/0.tar" in path and bool(span) for _, path, span in requests) > 4


def test_opencvs_threads_before_the_fork_do_not_hang_a_worker(index):
    """They are not in a forked worker; whoever ends or awaits them there waits forever."""
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(2)
        cv2.filter2D(np.zeros((2000, 2000, 3), np.float32), -1, np.ones((7, 7), np.float32))
        data = Subset(pairs_of(index), range(4))
        assert len(list(DataLoader(data, 2, num_workers=1, timeout=60))) == 2
    finally:
        cv2.setNumThreads(before)


def test_ranks_share_the_same_samples_out_without_overlap(index):
    """Two ranks with half the batch see together what one sees with all of it."""
    one = [pairs_of(index)[i]["hr"] for i in range(24)]
    both = [[pairs_of(index)[i]["hr"] for i in range(rank, 24, 2)] for rank in (0, 1)]
    for rank in (0, 1):
        assert all(torch.equal(a, b) for a, b in zip(both[rank], one[rank::2], strict=True))


def test_the_pairs_are_pairs_and_the_cut_one_is_counted_once(index):
    pairs = pairs_of(index)
    items = [pairs[i] for i in range(24)]
    for item in items:
        assert item["hr"].shape == item["lr"].shape == (3, 32, 32)
        assert item["hr"].dtype == item["lr"].dtype == torch.float32
        assert float((item["hr"] - item["lr"]).abs().mean()) < 0.25
    assert pairs.figures() == {"pictures": 12, "pictures_skipped": 1}


def test_too_many_bad_ones_in_a_worker_stop_the_run(index):
    with pytest.raises(Exception, match=r"1 of 12 pictures .*max_bad_share"):
        list(DataLoader(Subset(pairs_of(index, 0.05), range(24)), 2, num_workers=1))


def test_photographs_in_memory_give_the_samples_they_gave_before(photos):
    """Adding big sets must not change what a run on a folder is."""
    from tudsr.data.crops import draw_crop

    pairs = TrainingPairs(photos, SMOKE, 64, (2, 4), 5)
    rng = np.random.default_rng((5, 17))
    with Image.open(photos[rng.integers(4)]) as photo:
        expected = draw_crop(photo.convert("RGB"), 64, rng, SMOKE.data.crops)
    np.testing.assert_array_equal(pairs[17]["hr"].numpy(), expected.transpose(2, 0, 1))
    assert pairs.figures() == {}


class Killed(BaseException):
    pass


def test_training_on_a_big_set_is_killed_and_ends_with_the_same_bytes(index, tmp_path, monkeypatch):
    smoke = load_profile("smoke")
    smoke = smoke.model_copy(update={"data": smoke.data.model_copy(update={"max_bad_share": 0.5})})
    told = train_stage1(smoke, [index], tmp_path / "whole", tmp_path / "work1")
    assert told["pictures"] == 12 and told["pictures_skipped"] == 1
    assert 0 <= told["data_wait"] <= 1
    original = AdversarialStep.accumulate

    def dying(self, lr, hr, images_seen, *more):
        if images_seen >= 11:
            raise Killed
        return original(self, lr, hr, images_seen, *more)

    with monkeypatch.context() as patch:
        patch.setattr(AdversarialStep, "accumulate", dying)
        with pytest.raises(Killed):
            train_stage1(smoke, [index], tmp_path / "resumed", tmp_path / "work2")
    train_stage1(smoke, [index], tmp_path / "resumed", tmp_path / "work2")
    whole, resumed = (tmp_path / d / "adapter.safetensors" for d in ("whole", "resumed"))
    assert whole.read_bytes() == resumed.read_bytes()


def test_training_ends_with_the_same_bytes_whatever_the_number_of_workers(index, tmp_path):
    """And with the same name of its checkpoints, so a run may go on with another number."""
    adapters, keys = set(), set()
    for workers in (0, 1, 3):
        profile = load_profile("smoke")
        update = {
            "data": profile.data.model_copy(update={"max_bad_share": 0.5}),
            "runtime": profile.runtime.model_copy(update={"data_workers": workers}),
        }
        profile = profile.model_copy(update=update)
        train_stage1(profile, [index], tmp_path / f"out{workers}", tmp_path / "work")
        adapters.add((tmp_path / f"out{workers}" / "adapter.safetensors").read_bytes())
        keys.add(stage_inputs(profile, "stage1", [index], ()).key)
    assert len(adapters) == len(keys) == 1
