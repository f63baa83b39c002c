"""Several ranks: the losses of one, one who writes, and nobody who waits for the dead."""

import importlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.forked import write_photographs
from tests.data.bigset import write_shards
from tudsr.model.base import random_base, save_base
from tudsr.profile import DataSettings, load_profile
from tudsr.train.record import read_metrics

ROOT = Path(__file__).resolve().parents[2]


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> dict[str, dict]:
    """What the driver told, by case."""
    folder = tmp_path_factory.mktemp("ranks")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "train" / "ranks_driver.py"), str(folder)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {line["case"]: line for line in lines}


def losses(rows: list[dict]) -> list[tuple[str, float]]:
    return [(k, v) for row in rows for k, v in sorted(row.items()) if k.startswith("loss_")]


@pytest.mark.parametrize("name", ["stage1", "stage2", "shards"])
def test_two_ranks_give_the_losses_of_one(cases, name):
    one, two = cases[f"one-{name}"], cases[f"two-{name}"]
    assert (one["codes"], two["codes"]) == ([0], [0, 0]), (one["logs"], two["logs"])
    assert len(one["rows"]) == len(two["rows"]) == 6
    ours, theirs = losses(one["rows"]), losses(two["rows"])
    assert {"loss_l1", "loss_dists", "loss_gan", "loss_critic"} <= {name for name, _ in ours}
    assert [name for name, _ in ours] == [name for name, _ in theirs]
    for (name, ours_), (_, theirs_) in zip(ours, theirs, strict=True):
        assert math.isclose(ours_, theirs_, rel_tol=1e-5), (name, ours_, theirs_)


def test_each_group_is_shared_and_no_image_comes_twice(cases):
    order = cases["two-stage1"]["order"]
    first, second = order["trace-0"], order["trace-1"]
    assert [seen for seen, _ in first] == [seen for seen, _ in second] == [0, 4, 8, 12, 16, 20]
    hashes = [sha for _, sha in first + second]
    assert len(set(hashes)) == len(hashes)


def test_two_ranks_share_out_shards_and_step_over_the_same_broken_member(cases):
    one, two = cases["one-shards"], cases["two-shards"]
    updates = zip(two["order"]["trace-0"], two["order"]["trace-1"], strict=True)
    assert [(a[0], b[0]) for a, b in updates] == [(n, n) for n in range(0, 24, 4)]
    hashes = [sha for trace in two["order"].values() for _, sha in trace]
    assert len(set(hashes)) == 12 == 2 * len(one["order"]["trace-0"])
    assert one["rows"][-1]["pictures"] == two["rows"][-1]["pictures"] == 25
    told = [log for log in two["logs"].values() if "skipped 1.tar/008.png" in log]
    assert len(told) == 1 and "skipped 1.tar/008.png" in one["logs"]["trace-0"]


def test_rank_0_builds_the_index_and_the_other_node_gets_it(cases):
    found = [Path(f) for f in cases["two-shards"]["files"] if f.endswith(".index.safetensors")]
    assert [f.parts[0] for f in found] == ["node-0", "node-1"]
    assert len({f.name for f in found}) == 1


def test_another_rank_reads_no_shard_for_its_index(tmp_path, monkeypatch):
    """What rank 0 sends is all it needs: here its own copy of the set is not even there."""
    photos = importlib.import_module("tudsr.train.photos")
    data = DataSettings(train_sources=(str(write_shards(tmp_path / "set", 2, 3)),))
    profile = load_profile("smoke").model_copy(update={"data": data})
    (built,) = photos.shared_photos(profile)
    sent = iter([str(built.relative_to(tmp_path / "outputs")).encode(), built.read_bytes()])
    shutil.rmtree(tmp_path / "set")
    monkeypatch.setenv("TUDSR_OUTPUTS", str(tmp_path / "other"))
    monkeypatch.setattr(photos, "rank", lambda: 1)
    monkeypatch.setattr(photos, "from_rank_0", lambda mine: next(sent))
    (got,) = photos.shared_photos(profile)
    assert got.is_relative_to(tmp_path / "other") and got.read_bytes() == built.read_bytes()


def test_rank_0_alone_writes_and_speaks(cases):
    case = cases["two-stage1"]
    assert case["files"] == [*cases["one-stage1"]["files"][:-2], *_logs_and_traces(2)]
    assert "adapter 1 written" in case["logs"]["trace-0"]
    assert case["logs"]["trace-1"].strip() == ""


def _logs_and_traces(count: int) -> list[str]:
    return sorted(f"trace-{r}{end}" for r in range(count) for end in ("", ".log"))


def test_a_group_that_cannot_be_shared_is_refused(cases):
    case = cases["odd"]
    assert case["codes"] == [2, 2]
    assert "3 micro-batches of 2 images, which 2 ranks cannot share" in case["logs"]["trace-0"]
    assert "Start 1 or 3, or change accumulate" in case["logs"]["trace-0"]


def test_a_dead_rank_ends_the_other_with_a_message(cases):
    case = cases["killed"]
    assert case["codes"] == [2, -signal.SIGKILL]
    assert case["seconds"] < 5
    assert "rank 0 of 2 stops: another rank has died" in case["logs"]["trace-0"]
    assert "Traceback" not in case["logs"]["trace-0"]


def test_a_signal_to_one_rank_stops_all_at_the_same_update_saved(cases):
    case = cases["terminated"]
    assert case["codes"] == [75, 75], case["logs"]
    order = case["order"]
    assert [seen for seen, _ in order["trace-0"]] == [seen for seen, _ in order["trace-1"]]
    seen = order["trace-0"][-1][0] + 4
    assert any(f"checkpoints/{seen:010d}/state.json" in name for name in case["files"])
    assert f"interrupted after {seen} of 24 images" in case["logs"]["trace-0"]


def test_ranks_that_were_stopped_go_on_and_end_like_those_left_alone(cases):
    resumed, whole = cases["resumed"], cases["two-stage1"]
    assert resumed["codes"] == [0, 0], resumed["logs"]
    assert losses(resumed["rows"]) == losses(whole["rows"])
    assert resumed["order"] == whole["order"]


@pytest.mark.slow
def test_devices_of_the_profile_are_launched_stop_together_and_torchrun_goes_on(tmp_path):
    """The two real launchers: ours, told to stop; then torchrun, which goes on to the end."""
    write_photographs(tmp_path / "data")
    profile = tmp_path / "two.yaml"
    profile.write_text(
        "extends: smoke\nruntime: {devices: 2}\nstage1: {images: 96, log_every: 4}\n"
    )
    arguments = ["-m", "tudsr", "train", "stage1", "--profile", str(profile)]
    arguments += ["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")]
    told: dict = {"cwd": tmp_path, "env": environment(), "text": True}
    child = subprocess.Popen([sys.executable, *arguments], stderr=subprocess.PIPE, **told)
    while not (rows := list(tmp_path.glob("work/*/metrics.jsonl"))) or not read_metrics(rows[0]):
        assert child.poll() is None, child.communicate()[1]
        time.sleep(0.05)
    child.send_signal(signal.SIGTERM)
    _, said = child.communicate(timeout=120)
    assert child.returncode == 75, said
    assert "stage 1 was interrupted after" in said and "of 96 images" in said
    saved = sorted(p.name for p in tmp_path.glob("work/*/checkpoints/*"))[-1]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*launcher, "--nproc-per-node=2", *arguments], capture_output=True, timeout=300, **told
    )
    assert done.returncode == 0, done.stderr
    seen = [row["images_seen"] for row in read_metrics(tmp_path / "out" / "metrics.jsonl")]
    assert seen == list(range(4, 97, 4)) and int(saved) < 96


def weights(base: Path) -> dict[str, torch.Tensor]:
    parts = base.rglob("diffusion_pytorch_model.safetensors")
    return {f.parent.name + k: v.float() for f in parts for k, v in load_file(f).items()}


@pytest.mark.slow
def test_two_ranks_pretrain_the_base_that_one_does(tmp_path):
    """Decoder alone, both, then on features: the same losses and, to rounding, the same weights."""
    write_photographs(tmp_path / "data")
    profile = tmp_path / "base.yaml"
    profile.write_text(
        "extends: smoke\npretrain: {images: 24, decoder_images: 8, restore_share: 1, log_every: 8, "
        "finish: {images: 16, warmup: 0}}\nstage1: {loss: {trunk: random}}\n"
    )
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    made: dict[str, tuple[list, dict]] = {}
    for name, start in (("one", []), ("two", launcher)):
        arguments = ["-m", "tudsr", "train", "base", "--profile", str(profile)]
        arguments += ["--out", name, "--work", f"{name}-work"]
        done = subprocess.run(
            [sys.executable, *start, *arguments],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("base written") == 1
        rows = [losses(read_metrics(f)) for f in tmp_path.glob(f"{name}-work/*/metrics.jsonl")]
        made[name] = sorted(rows, key=len), weights(tmp_path / name)
    for ours, theirs in zip(made["one"][0], made["two"][0], strict=True):
        assert [k for k, _ in ours] == [k for k, _ in theirs] and ours
        for (name, a), (_, b) in zip(ours, theirs, strict=True):
            assert math.isclose(a, b, rel_tol=1e-4), (name, a, b)
    save_base(random_base("smoke", 0), tmp_path / "smoke", {}, torch.float32)
    ours, theirs = (
        torch.cat([w[k].flatten().float() for k in sorted(w)]) for _, w in made.values()
    )
    start = torch.cat([weights(tmp_path / "smoke")[k].flatten() for k in sorted(made["one"][1])])
    assert (ours - theirs).norm() < 0.005 * (ours - start).norm()
