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
from tudsr.train import loop
from tudsr.train.adversarial import AdversarialStep
from tudsr.train.checkpoint import (
    other_trainings,
    training_inputs,
)
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
