"""What many tests need: quiet libraries, an outputs folder of their own, small photographs."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("ZENML_ANALYTICS_OPT_IN", "false")
os.environ.setdefault("ZENML_LOGGING_VERBOSITY", "WARN")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

# ZenML and BentoML keep stores in the user's home; tests have their own, a process each.
_OWN = Path(tempfile.mkdtemp(prefix="tudsr-tests-"))
atexit.register(shutil.rmtree, _OWN, ignore_errors=True)
os.environ["ZENML_CONFIG_PATH"] = str(_OWN / "zenml")
os.environ["BENTOML_HOME"] = str(_OWN / "bentoml")
# A model's form for a CPU takes seconds to make; all tests of a process share them.
os.environ["TUDSR_FORMS"] = str(_OWN / "forms")

ROOT = Path(__file__).resolve().parents[1]

# Modules of a minute or more. They begin first: begun last, one of them keeps a worker busy while
# the other has nothing left to do. `test_full` counts the runs in its project's stores, which the
# other pipelines' tests share, so it comes before them.
LONG = (
    "pipelines/test_full.py",
    "kubeflow/test_loopback.py",
    "train/test_kills.py",
    "pipelines/test_devices.py",
    "pipelines/test_interrupted.py",
    "train/test_distributed.py",
    "train/test_looped_chunk.py",
    "serving/test_server.py",
    "model/test_cpu_form.py",
    "tests/test_bad_input.py",
    "upscale/test_kills.py",
    "hostile/test_hostile.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long modules first, as listed; `make test` keeps that order, which xdist would change."""
    place = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda i: place.get("/".join(i.path.parts[-2:]), len(LONG)))


@pytest.fixture(autouse=True)
def own_outputs(tmp_path, monkeypatch):
    """Nothing a test makes lands in the project's outputs/."""
    monkeypatch.setenv("TUDSR_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def scene(seed: int, side: int = 160) -> np.ndarray:
    """A (side, side, 3) uint8 picture with edges, gradients and fine texture."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    picture = np.stack([x, y, 1 - x], -1) * 0.5
    for _ in range(12):
        cy, cx, radius = rng.random(3) * [1, 1, 0.25]
        disc = (y - cy) ** 2 + (x - cx) ** 2 < radius**2
        picture[disc] = rng.random(3)
    wave = np.sin(2 * np.pi * (x * rng.integers(10, 30) + y * rng.integers(10, 30)))
    picture += 0.1 * wave[..., None] + rng.normal(0, 0.02, picture.shape)
    return (picture.clip(0, 1) * 255).astype(np.uint8)


@pytest.fixture
def photos(tmp_path):
    """Four small photographs on disk, for training code."""
    from PIL import Image

    paths = [tmp_path / f"photo{i}.png" for i in range(4)]
    for seed, path in enumerate(paths):
        Image.fromarray(scene(seed)).save(path)
    return paths


@pytest.fixture(scope="session")
def bundle(tmp_path_factory) -> Path:
    """The smoke architecture with random weights, as a bundle."""
    return random_bundle(tmp_path_factory.mktemp("bundle"))


def random_bundle(folder: Path, profile_name: str = "smoke", **upscale: object) -> Path:
    """A bundle of random weights in ``folder``; ``upscale`` changes settings of that section.

    With ``sd21`` it has that profile's settings and SD2.1's classes at an eighth of the channels.
    """
    import torch

    from tests.release.conftest import provenance, verdict
    from tudsr.model.adapters import add_adapter, save_adapter
    from tudsr.model.base import load_base, save_base
    from tudsr.profile import load_profile
    from tudsr.release.bundle import write_bundle

    profile = load_profile(profile_name)
    settings = profile.base
    if profile_name == "sd21":
        settings = settings.model_copy(update={"arch": "sd21-eighth", "random_seed": 0})
    changed = {"base": settings, "upscale": profile.upscale.model_copy(update=upscale)}
    profile = profile.model_copy(update=changed)
    base = load_base(profile.base)
    save_base(base, folder / "base", {"arch": settings.arch}, torch.float32)
    paths = [folder / f"a{stage}.safetensors" for stage in (1, 2)]
    for stage, path in enumerate(paths, 1):
        add_adapter(base.unet, f"stage{stage}", profile.stage1.lora, stage)
        save_adapter(path, base.unet, f"stage{stage}", profile.stage1.lora, 200)
    out = folder / "out"
    write_bundle(out, folder / "base", *paths, profile, verdict(), provenance(), "# A card\n")
    return out
