"""Signals, numbers that are none, workers that hang: what training leaves behind."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tudsr.errors import Interrupted, TrainingError
from tudsr.model.losses import staged_trunk
from tudsr.profile import load_profile
from tudsr.train import loop, stages
from tudsr.train.adversarial import AdversarialStep
from tudsr.train.checkpoint import (
    newest_checkpoint,
    other_trainings,
    save_checkpoint,
    training_inputs,
)
from tudsr.train.device import running_on
from tudsr.train.meter import FiniteCheck
from tudsr.train.pairs import TrainingPairs
from tudsr.train.record import read_metrics
from tudsr.train.stages import train_stage1
from tudsr.train.stopping import StopSignals

ROOT = Path(__file__).resolve().parents[2]
SMOKE = load_profile("smoke")


def changed(**values):
    return SMOKE.model_copy(update={"stage1": SMOKE.stage1.model_copy(update=values)})


def test_a_first_signal_is_noted_and_a_second_ends_the_process():
    script = (
        "import os, signal, time\n"
        "from tudsr.train.stopping import StopSignals\n"
        "with StopSignals() as signals:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    print(signals.received, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(10)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert done.returncode == -signal.SIGINT
    assert done.stdout.strip() == "True"
    assert "SIGTERM: finishing this step, then saving" in done.stderr


def test_signal_handlers_come_back_and_other_threads_install_none():
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
    seen = []

    def elsewhere():
        with StopSignals() as signals:
            seen.append((signal.getsignal(signal.SIGTERM), signals.received))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [(before, False)]


def test_an_interruption_that_nobody_catches_ends_the_process_with_75():
    script = "from tudsr.errors import Interrupted\nraise Interrupted('saved')"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, timeout=60)
    assert done.returncode == 75


def test_interrupted_in_the_library_it_is_an_error_that_says_how_to_go_on(
    photos, tmp_path, monkeypatch
):
    update = loop.FiniteCheck.note

    def signalling(self, seen, losses):
        if seen == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        update(self, seen, losses)

    with monkeypatch.context() as patch:
        patch.setattr(loop.FiniteCheck, "note", signalling)
        with pytest.raises(Interrupted, match="after 4 of 16 images and has saved them"):
            train_stage1(SMOKE, photos, tmp_path / "out", tmp_path / "work")
    assert list(tmp_path.glob("work/*/checkpoints/0000000004/state.json"))
    train_stage1(SMOKE, photos, tmp_path / "out", tmp_path / "work", resume=True)
    train_stage1(SMOKE, photos, tmp_path / "whole", tmp_path / "work")
    adapters = [tmp_path / name / "adapter.safetensors" for name in ("out", "whole")]
    assert adapters[0].read_bytes() == adapters[1].read_bytes()


def test_nothing_draws_from_a_global_random_generator(photos, tmp_path):
    """So a checkpoint needs no random states: draws derive from (seed, images seen)."""
    staged_trunk("random", None)  # built once a process, by torch's constructors, then overwritten
    adapters = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
        train_stage1(SMOKE, photos, tmp_path / f"out{seed}", tmp_path / "work")
        assert torch.equal(torch.get_rng_state(), states[0])
        assert np.array_equal(np.random.get_state()[1], states[1])
        assert random.getstate() == states[2]
        adapters.append((tmp_path / f"out{seed}" / "adapter.safetensors").read_bytes())
    assert adapters[0] == adapters[1]


def test_a_loss_that_was_no_number_between_two_rows_is_named_and_never_saved(
    photos, tmp_path, monkeypatch
):
    original = AdversarialStep.accumulate

    def once(self, lr, hr, images_seen, *more):
        losses = original(self, lr, hr, images_seen, *more)
        return losses | {"loss_gan": torch.tensor(float("inf"))} if images_seen == 8 else losses

    monkeypatch.setattr(AdversarialStep, "accumulate", once)
    profile = changed(images=32, log_every=32, checkpoint_every=8)
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
    running = stages._inputs(SMOKE, "stage1", photos, ()).running
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


def test_resume_alone_refuses_to_start_anew_and_without_it_a_note_is_printed(
    photos, tmp_path, monkeypatch, capsys
):
    def dying(self, rate):
        raise KeyboardInterrupt

    places = tmp_path / "out", tmp_path / "work"
    with pytest.raises(TrainingError, match="there is no checkpoint under"):
        train_stage1(SMOKE, photos, *places, resume=True)
    apply = AdversarialStep.apply
    monkeypatch.setattr(
        AdversarialStep,
        "apply",
        lambda self, r: apply(self, r) if self.ema.optimization_step < 3 else dying(self, r),
    )
    with pytest.raises(KeyboardInterrupt):
        train_stage1(SMOKE, photos, *places)
    monkeypatch.setattr(AdversarialStep, "apply", apply)
    other = changed(clip_norm=0.5)
    with pytest.raises(TrainingError, match=r"stage1.clip_norm 1.0 there, 0.5 now"):
        train_stage1(other, photos, *places, resume=True)
    train_stage1(other, photos, *places)
    said = " ".join(capsys.readouterr().err.split())
    assert "stopped after 8 images with stage1.clip_norm 1.0 there, 0.5 now" in said
    assert "starts anew beside it" in said
    inputs = training_inputs({}, [])
    assert len(other_trainings(places[1], inputs)) == 1, "the other run is still there"


def test_figures_come_at_the_same_images_whatever_the_time(photos, tmp_path):
    train_stage1(changed(images=40, log_every=8), photos, tmp_path / "out", tmp_path / "work")
    rows = read_metrics(tmp_path / "out" / "metrics.jsonl")
    assert [row["images_seen"] for row in rows] == [8, 16, 24, 32, 40]


def test_what_a_kill_left_half_written_is_removed(photos, tmp_path):
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom tudsr.images.atomic import writing_dir\n"
        "with writing_dir(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'half').write_text('half')\n    os._exit(1)\n"
    )
    out = tmp_path / "out"
    subprocess.run([sys.executable, "-c", code, str(out)], cwd=ROOT, check=False, timeout=60)
    assert [p.name[:5] for p in tmp_path.glob(".*")] == [".out."]
    train_stage1(SMOKE, photos, out, tmp_path / "work")
    assert not list(tmp_path.glob(".*")) and (out / "adapter.safetensors").is_file()


def test_a_stopped_data_worker_does_not_stop_training(photos, tmp_path, monkeypatch):
    """Launchers signal whole groups: a worker must outlive the signal that training waits for."""
    note = loop.FiniteCheck.note
    before, told = set(multiprocessing.active_children()), []

    def to_workers(self, seen, losses):
        for worker in set(multiprocessing.active_children()) - before:
            worker.terminate()
            told.append(worker)
        time.sleep(0.05)
        note(self, seen, losses)

    monkeypatch.setattr(loop.FiniteCheck, "note", to_workers)
    train_stage1(SMOKE, photos, tmp_path / "out", tmp_path / "work")
    assert told
    assert (tmp_path / "out" / "adapter.safetensors").is_file()


def test_a_data_worker_that_hangs_is_ended_with_training(photos, tmp_path, monkeypatch):
    make = TrainingPairs.__getitem__
    monkeypatch.setattr(
        TrainingPairs,
        "__getitem__",
        lambda self, index: make(self, index) if index < 4 else time.sleep(3600),
    )
    note = loop.FiniteCheck.note

    def to_itself(self, seen, losses):
        note(self, seen, losses)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(loop.FiniteCheck, "note", to_itself)
    before = set(multiprocessing.active_children())
    began = time.monotonic()
    with pytest.raises(Interrupted):
        train_stage1(SMOKE, photos, tmp_path / "out", tmp_path / "work")
    for worker in set(multiprocessing.active_children()) - before:
        worker.join(10)
    assert time.monotonic() - began < 60
    assert set(multiprocessing.active_children()) <= before
