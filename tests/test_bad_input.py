"""What goes wrong at the keyboard: one clear error each, and nothing that was there is lost."""

import ctypes
import errno
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import scene
from tudsr.errors import ImageError, ModelError
from tudsr.model.base import load_base
from tudsr.profile import BaseSettings, load_profile
from tudsr.train.stages import train_stage1

ROOT = Path(__file__).resolve().parents[1]


def tudsr(
    *arguments: object,
    before: Callable[[], None] | None = None,
    cwd: Path = ROOT,
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tudsr", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        preexec_fn=before,
        timeout=300,
    )


def says(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 2, done.stdout + done.stderr
    sentence = done.stderr.strip().splitlines()[-1]
    assert sentence.startswith("error: ")
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Pictures that cannot be enlarged, by what is wrong with them."""
    folder = tmp_path_factory.mktemp("pictures")
    Image.fromarray(scene(0, 64)).save(folder / "whole.jpg")
    (folder / "truncated.jpg").write_bytes((folder / "whole.jpg").read_bytes()[:700])
    (folder / "text.png").write_text("this is no picture")
    Image.fromarray(np.zeros((1, 1, 3), np.uint8)).save(folder / "dot.png")
    Image.fromarray(scene(0, 64)).convert("CMYK").save(folder / "print.jpg")
    frames = [Image.fromarray(scene(i, 32)) for i in range(3)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    return folder


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("truncated.jpg", "damaged or cut off"),
        ("text.png", "is not a JPEG"),
        ("dot.png", "each side needs"),
        ("moving.gif", "3 frames"),
        ("print.jpg", "CMYK without a colour profile"),
        ("nowhere.png", "no file"),
    ],
)
def test_a_picture_that_cannot_be_enlarged(pictures, bundle, tmp_path, name, words):
    out = tmp_path / "out.png"
    out.write_text("was here before")
    says(tudsr("upscale", pictures / name, out, "--model", bundle), words)
    assert out.read_text() == "was here before"


def test_in_a_folder_the_broken_ones_are_listed_and_the_others_made(pictures, bundle, tmp_path):
    done = tudsr("upscale", pictures, tmp_path / "out", "--scale", "2", "--model", bundle)
    assert done.returncode == 1
    assert "1 made, 0 were there already, 5 failed" in done.stdout
    assert sorted(p.name for p in (tmp_path / "out").rglob("*.*")) == [
        "tudsr-manifest.jsonl",
        "whole.jpg",
    ]


def test_without_a_champion_only_the_model_that_comes_with_the_project_is_there(pictures, tmp_path):
    command = ["upscale", pictures / "whole.jpg", tmp_path / "out.png"]
    done = tudsr(*command, TUDSR_OUTPUTS=str(tmp_path))
    assert done.returncode == 0, done.stderr
    done = tudsr(*command, "--model", "champion", TUDSR_OUTPUTS=str(tmp_path))
    says(done, "make run", "Registered: nothing")


def without_roots_privilege() -> None:
    """In a child, before its program: permissions bind root as they bind others."""
    if os.geteuid() == 0:
        prctl, drop_from_bounding_set, dac_override = ctypes.CDLL(None).prctl, 24, 1
        assert prctl(drop_from_bounding_set, dac_override, 0, 0, 0) == 0


def test_no_permission_to_write(pictures, bundle, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir()
    (locked / "out.png").write_text("was here before")
    locked.chmod(0o500)
    command = ("upscale", pictures / "whole.jpg", locked / "out.png", "--model", bundle)
    says(tudsr(*command, before=without_roots_privilege), str(locked), "may write")
    assert (locked / "out.png").read_text() == "was here before"
    assert [p.name for p in locked.iterdir()] == ["out.png"]


def test_a_target_that_cannot_be_written(pictures, bundle, tmp_path):
    (tmp_path / "file").write_text("in the way")
    target = tmp_path / "file" / "out.png"
    says(tudsr("upscale", pictures / "whole.jpg", target, "--model", bundle), str(target))
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_full_disk_loses_nothing(tmp_path, monkeypatch):
    from tudsr.images.picture import Picture
    from tudsr.images.write import write_image

    target = tmp_path / "out.png"
    target.write_text("was here before")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ImageError, match="No space left on device; nothing there was changed"):
        write_image(Picture(np.zeros((8, 8, 3), np.float32)), target)
    assert target.read_text() == "was here before"
    assert [p.name for p in tmp_path.iterdir()] == ["out.png"]


def test_a_full_disk_in_training_keeps_the_last_checkpoint(photos, tmp_path, monkeypatch):
    from tudsr.train import loop

    saved: list[int] = []
    save = loop.save_checkpoint

    def full_at_the_second(folder, seen, tensors, key):
        if saved:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
        saved.append(seen)
        save(folder, seen, tensors, key)

    monkeypatch.setattr(loop, "save_checkpoint", full_at_the_second)
    profile = load_profile("smoke")
    with pytest.raises(OSError, match="No space left"):
        train_stage1(profile, photos, tmp_path / "out", tmp_path / "work")
    monkeypatch.setattr(loop, "save_checkpoint", save)
    resumed: list[int] = []
    monkeypatch.setattr(
        loop,
        "_resume",
        lambda task, plan, real=loop._resume: resumed.append(real(task, plan)) or resumed[0],
    )
    train_stage1(profile, photos, tmp_path / "out", tmp_path / "work")
    assert resumed == saved


def at_most(size: int) -> Callable[[], None]:
    """In a child, before its program: no file may grow beyond so many bytes."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize(
    ("size", "name"), [(100, "metrics.jsonl"), (100_000, "checkpoints/0000000008")]
)
def test_a_disk_that_takes_no_more_is_one_sentence_of_the_command(photos, tmp_path, size, name):
    for split in ("train", "val", "test"):
        shutil.copytree(photos[0].parent, tmp_path / "data" / split, ignore=_all_but_pictures)
    profile = tmp_path / "mine.yaml"  # without a worker, whose shared memory would be limited too
    profile.write_text(
        "extends: smoke\nruntime: {data_workers: 0}\nstage1: {log_every: 4}\n", "utf-8"
    )
    command = ("train", "stage1", "--profile", profile, "--out", "out", "--work", "work")
    # Python would leave bytecode cut off at that size, for every later process to stumble over.
    limits = {"before": at_most(size), "PYTHONDONTWRITEBYTECODE": "1"}
    done = tudsr(*command, cwd=tmp_path, **limits)
    says(done, name, "File too large", "Nothing that was there is lost")
    assert not list(tmp_path.glob("work/*/checkpoints/*"))


def _all_but_pictures(_: str, names: list[str]) -> list[str]:
    return [name for name in names if not name.endswith(".png")]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: None, "no base at"),
        (lambda f: f.mkdir(), "cannot be read"),
        (lambda f: _config(f, {"prediction_type": "v_prediction"}), "predicts 'v_prediction'"),
    ],
    ids=["missing", "empty", "wrong"],
)
def test_a_base_that_cannot_be_used(tmp_path, damage, words):
    damage(tmp_path / "base")
    with pytest.raises(ModelError, match=words):
        load_base(BaseSettings(source=str(tmp_path / "base")))


def _config(folder: Path, content: dict) -> None:
    (folder / "scheduler").mkdir(parents=True)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(content))


def test_a_killed_training_goes_on_and_ends_with_the_same_bytes(photos, tmp_path):
    for split in ("train", "val", "test"):
        (tmp_path / "data" / split).mkdir(parents=True)
        for photo in photos:
            (tmp_path / "data" / split / photo.name).write_bytes(photo.read_bytes())
    profile = tmp_path / "mine.yaml"
    profile.write_text("extends: smoke\nstage1: {images: 24, checkpoint_every: 4}\n", "utf-8")

    def start(name: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tudsr", "train", "stage1", "--profile", str(profile)]
        places = ["--out", str(tmp_path / name), "--work", str(tmp_path / f"{name}-work")]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen([*command, *places], cwd=tmp_path, env=environment)

    assert start("whole").wait(200) == 0
    killed = start("killed")
    deadline = time.monotonic() + 200
    while not list(tmp_path.glob("killed-work/*/checkpoints/0*/state.json")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    killed.kill()
    killed.wait(30)
    assert not (tmp_path / "killed").exists()
    assert start("killed").wait(200) == 0
    adapters = [tmp_path / name / "adapter.safetensors" for name in ("whole", "killed")]
    assert adapters[0].read_bytes() == adapters[1].read_bytes()
