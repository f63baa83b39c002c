"""Our own methods for the quality benchmark: a bundle, its ablation, and the base alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.base_alone import zero_adapters
from benchmarks.quality_scores import Method
from tudsr.evaluate.judge import seam_method
from tudsr.evaluate.seams import seam_ratio
from tudsr.model.opening import open_runtime
from tudsr.model.runtime import training_runtime
from tudsr.profile import Profile, UpscaleSettings, load_profile
from tudsr.provenance import code_fingerprint
from tudsr.release.bundle import load_bundle
from tudsr.release.locate import locate_model
from tudsr.upscale.runtime import TileRuntime
from tudsr.upscale.upscaler import Stages, Upscaler

Pixels = np.ndarray[Any, np.dtype[np.float32]]
BASE = "base"
# Goal Q3: the cascade, one shot, stage 1 run twice; M2N2 is what damaged inputs get at x4.
ABLATION: dict[int, dict[str, Stages]] = {
    4: {"TUDSR M2N2": [(2, 1), (2, 2)], "TUDSR M4": [(4, 1)]},
    8: {
        "TUDSR M4N2": [(4, 1), (2, 2)],
        "TUDSR M2N2N2": [(2, 1), (2, 2), (2, 2)],
        "TUDSR M8": [(8, 1)],
        "TUDSR stage 1 twice": [(4, 1), (2, 1)],
    },
}


@dataclass(frozen=True)
class Ours:
    """Our methods.

    Attributes:
        by_scale: the first of each is the one to judge, which the model's settings choose.
        main: its name by scale.
        signature: which model it is.
    """

    by_scale: dict[int, list[Method]]
    main: dict[int, str]
    signature: str


def our_methods(model: str | None, scratch: Path, ablation: bool) -> Ours:
    """The methods of a bundle, or of the base of profile ``tiny`` where ``model`` is ``base``."""
    if model == BASE:
        profile = load_profile("tiny")
        return _base_alone(profile, scratch)
    folder = locate_model(model)
    bundle = load_bundle(folder)
    key = f"{bundle.bundle_hash} {code_fingerprint()}"
    runtime = open_runtime(folder)
    methods = {
        scale: _cascades(runtime, bundle.upscale, key, scale, ablation) for scale in ABLATION
    }
    if ablation:
        # By name: a bundle's own copy may have settings that are gone since.
        base = _base_alone(load_profile(str(bundle.profile["name"])), scratch)
        methods = {scale: [*own, *base.by_scale[scale]] for scale, own in methods.items()}
    signature = f"{bundle.model_name} {bundle.bundle_hash[:12]}"
    return Ours(methods, {scale: own[0].name for scale, own in methods.items()}, signature)


def _cascades(
    runtime: TileRuntime, settings: UpscaleSettings, key: str, scale: int, ablation: bool
) -> list[Method]:
    """What the model chooses for each picture, then the ways that it can be made to go."""
    upscaler = Upscaler(runtime, settings)

    def method(name: str, stages: Stages | None) -> Method:
        enlarge: Callable[[Pixels], Pixels] = lambda lr: upscaler.upscale(lr, scale, stages)  # noqa: E731
        seams = _seams(runtime, settings, scale) if stages is None else None
        return Method(name, f"{key} {stages and list(stages)}", enlarge, seams)

    chosen = method("TUDSR", None)
    return [chosen, *(method(*given) for given in ABLATION[scale].items() if ablation)]


def _base_alone(profile: Profile, scratch: Path) -> Ours:
    runtime = training_runtime(profile.base, zero_adapters(profile, scratch), profile.runtime)
    upscaler = Upscaler(runtime, profile.upscale)
    timesteps = f"{profile.stage1.timestep} {profile.stage2.timestep}"
    files = sorted(Path(profile.base.source).rglob("*.safetensors"))
    settings = profile.upscale.model_dump_json()
    key = f"base {timesteps} {settings} {code_fingerprint()} {[_sha(file) for file in files]}"

    def method(scale: int) -> Method:
        seams = _seams(runtime, profile.upscale, scale)
        return Method("base alone", key, lambda lr: upscaler.upscale(lr, scale), seams)

    methods = {scale: [method(scale)] for scale in ABLATION}
    return Ours(methods, dict.fromkeys(ABLATION, "base alone"), f"the base alone ({timesteps})")


def _sha(path: Path) -> str:
    from tudsr.provenance import file_sha256

    return file_sha256(path)


def _seams(
    runtime: TileRuntime, settings: UpscaleSettings, scale: int
) -> Callable[[Pixels, Pixels], float | None]:
    method = seam_method(runtime, settings)

    def measure(result: Pixels, lr: Pixels) -> float | None:
        assert method.tile_lines is not None and method.untiled is not None
        lines = method.tile_lines(result.shape[0], result.shape[1], scale)
        return seam_ratio(result, method.untiled(lr, scale), *lines) if any(lines) else None

    return measure
