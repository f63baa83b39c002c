"""A tiny bundle to damage, register and promote; weights are a few random numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from tudsr.profile import Profile, RegistrySettings, load_profile
from tudsr.provenance import Provenance
from tudsr.release.bundle import write_bundle
from tudsr.release.registry import register


def provenance(**changes: Any) -> Provenance:
    made: dict[str, Any] = {
        "code": "c" * 64,
        "commit": None,
        "dirty": False,
        "data": "d" * 32,
        "base": "b" * 64,
        "profile": "p" * 64,
        "seed": 0,
        "machine": "a processor, 2 cores, Linux",
        "packages": {"torch": "2.13.0"},
        "created": "2026-01-02T03:04:05+00:00",
    }
    return Provenance.model_validate({**made, **changes})


def verdict(
    champion: str | None = None, beats: bool | None = None, **changes: Any
) -> dict[str, Any]:
    """A verdict as JSON, in the shape of ``tudsr.release.gate.Verdict``."""
    means = {"psnr_y": 27.5, "ssim_y": 0.8, "lpips_hed": 0.3, "dists": 0.1, "niqe": 4.0}
    interval = {"mean": 0.02, "low": 0.01, "high": 0.03, "smaller": 1, "count": 12}
    return {
        "open": True,
        "perceptual": "lpips_hed",
        "rules": [],
        "gains": {"x4": 0.31, "x8": 0.27},
        "means": {m: {"x4": means, "x8": means} for m in ("model", "bicubic")},
        "champion": champion,
        "versus_champion": {"x4": interval} if champion else {},
        "beats_champion": beats,
        **changes,
    }


class Parts:
    """The files that a bundle is made of."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.base = folder / "base"
        for name in ("unet/config.json", "scheduler/scheduler_config.json", "vae/config.json"):
            (self.base / name).parent.mkdir(parents=True, exist_ok=True)
            (self.base / name).write_text(json.dumps({"for": name}))
        self.weights(self.base / "unet" / "diffusion_pytorch_model.safetensors", 1)
        self.weights(self.base / "prompt.safetensors", 2)
        self.profile: Profile = load_profile("smoke")

    def weights(self, path: Path, seed: int) -> Path:
        rng = np.random.default_rng(seed)
        save_file({"w": rng.normal(size=(4, 4)).astype(np.float32)}, path)
        return path

    def bundle(
        self,
        out: Path,
        seed: int = 0,
        gate: dict[str, Any] | None = None,
        made: Provenance | None = None,
        card: str = "# A card\n",
    ) -> Path:
        """Write a bundle whose adapters follow from ``seed``."""
        adapters = [self.weights(self.folder / f"a{i}.safetensors", 10 * seed + i) for i in (1, 2)]
        write_bundle(
            out, self.base, *adapters, self.profile, gate or verdict(), made or provenance(), card
        )
        return out


@pytest.fixture
def parts(tmp_path):
    return Parts(tmp_path / "parts")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """One registry for the module: making its tables takes seconds."""
    return tmp_path_factory.mktemp("registry") / "outputs"


@pytest.fixture
def shared_store(own_outputs, store, monkeypatch):
    monkeypatch.setenv("TUDSR_OUTPUTS", str(store))


@pytest.fixture
def name(request):
    """Each test has a registered model of its own."""
    return request.node.name.replace("[", "-").strip("]")


@pytest.fixture
def make(parts: Parts, tmp_path, name):
    """Register the bundle number ``seed``, gated against ``champion``."""

    def registered(seed=0, champion=None, beats=None, tags=None, run_id=None, **gate):
        settings = RegistrySettings(model_name=name, experiment="tests")
        parts.profile = parts.profile.model_copy(update={"registry": settings})
        out = parts.bundle(tmp_path / f"bundle{seed}", seed, verdict(champion, beats, **gate))
        return register(out, run_id, tags or {}, settings)

    return registered
