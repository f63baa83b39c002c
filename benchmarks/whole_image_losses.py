"""What losses on the whole picture do to seams: stage 2 trained by chunks and across borders.

    python -m benchmarks.whole_image_losses [--profile tiny] [--images 480] [--pairs 24]

Both trainings have the same settings, pictures and adapter 1 (``outputs/train/adapter1``, else one
trained here first). Then pairs of the test photographs go through stage 2 chunk by chunk, without
an overlap, as in training: the seam ratio is the step across the chunks' borders over the step
there when the same input goes through in one piece. Also told: L1 to the truth, and each training's
images a second and peak memory. Writes benchmarks/results/whole-image-losses.{json,md}.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from benchmarks.machine import machine_name
from tudsr.data.photos import list_photographs
from tudsr.evaluate.seams import seam_ratio
from tudsr.images.atomic import write_json, write_text
from tudsr.model.adapters import activate, load_adapter
from tudsr.model.base import Base, load_base
from tudsr.places import outputs_dir
from tudsr.profile import PROJECT_ROOT, Profile, load_profile
from tudsr.train.chunks import chunk, enlarge, unchunk
from tudsr.train.pairs import TrainingPairs
from tudsr.train.record import read_metrics

RESULTS = PROJECT_ROOT / "benchmarks" / "results"
KINDS = {"chunk by chunk": False, "on the whole picture": True}


def main() -> None:
    """Train twice, measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", default="tiny")
    parser.add_argument("--images", type=int, default=480)
    parser.add_argument("--pairs", type=int, default=24)
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        adapter1 = _adapter1(folder, given)
        for kind, whole in KINDS.items():
            path, out = folder / f"{whole}.yaml", folder / str(whole)
            path.write_text(yaml.safe_dump(_settings(given, whole)), "utf-8")
            _train("stage2", path, out, ("--adapter1", adapter1))
            figures = read_metrics(out / "metrics.jsonl")[-1]
            seen = measure(load_profile(path), adapter1, out / "adapter.safetensors", given.pairs)
            told = {k: figures[k] for k in ("images_per_s", "peak_memory_gib")}
            rows.append({"losses": kind, **seen, **told})
            print(rows[-1], flush=True)
    told = {"machine": machine_name(), "images": given.images, "pairs": given.pairs, "rows": rows}
    write_json(RESULTS / "whole-image-losses.json", told)
    write_text(RESULTS / "whole-image-losses.md", _table(told))


def _settings(given: argparse.Namespace, whole: bool) -> dict[str, Any]:
    profile = load_profile(given.profile)
    chunks = profile.stage2.n**2
    change = {"images": given.images, "accumulate": chunks, "whole_image_losses": whole}
    return {"extends": given.profile, "stage2": change}


def _adapter1(folder: Path, given: argparse.Namespace) -> Path:
    made = outputs_dir() / "train" / "adapter1" / "adapter.safetensors"
    if made.is_file():
        return made
    path = folder / "one.yaml"
    path.write_text(yaml.safe_dump({"extends": given.profile, "stage1": {"images": given.images}}))
    _train("stage1", path, folder / "one")
    return folder / "one" / "adapter.safetensors"


def _train(stage: str, profile: Path, out: Path, more: tuple[object, ...] = ()) -> None:
    """In a process of its own, so that the peak of memory is its own."""
    places = ("--profile", profile, "--out", out, "--work", out.with_suffix(".work"))
    command = ("-m", "tudsr", "train", stage, *places, *more)
    subprocess.run([sys.executable, *map(str, command)], check=True)


@torch.inference_mode()
def measure(profile: Profile, adapter1: Path, adapter2: Path, count: int) -> dict[str, float]:
    """Mean seam ratio at the chunks' borders, and mean L1, over ``count`` pairs."""
    base = load_base(profile.base)
    t1, t2 = (load_adapter(p, base.unet, f"stage{i}") for i, p in ((1, adapter1), (2, adapter2)))
    n, r_px = profile.stage2.n, profile.base.r_px
    photos = [p.path for p in list_photographs(Path(profile.data.root)) if p.split == "test"]
    scales, seed = profile.stage2.scales, profile.seed + 1
    pairs = TrainingPairs(photos, profile, n * r_px, scales, seed)
    ratios: list[float] = []
    errors: list[float] = []
    for index in range(count):
        pair = pairs[index]
        inputs = _stage2_input(base, pair["lr"][None], t1, n)
        parts = [base.restore(part, t2) for part in chunk(inputs, r_px)]
        chunked, whole = unchunk(parts, n), base.restore(inputs, t2)
        lines = [k * r_px for k in range(1, n)]
        ratio = seam_ratio(_pixels(chunked), _pixels(whole), lines, lines)
        ratios += [ratio] if ratio is not None else []
        errors.append(float((chunked[0] - pair["hr"]).abs().mean()))
    return {
        "seam_ratio": float(np.mean(ratios)),
        "seam_ratio_error": float(np.std(ratios) / np.sqrt(len(ratios))),
        "l1": float(np.mean(errors)),
    }


def _stage2_input(base: Base, lr: torch.Tensor, t1: int, n: int) -> torch.Tensor:
    activate(base.unet, "stage1")
    middle = base.restore(lr, t1).clamp(0, 1)
    activate(base.unet, "stage2")
    return enlarge(middle, n, "bilinear")


def _pixels(images: torch.Tensor) -> np.ndarray:
    return images[0].permute(1, 2, 0).numpy()


def _table(told: dict[str, Any]) -> str:
    lines = [
        f"{told['machine']}; stage 2, {told['images']} images, {told['pairs']} test pairs.",
        "",
        "| losses | seam ratio at chunk borders | L1 | images a second | peak, GiB |",
        "| --- | --: | --: | --: | --: |",
    ]
    for row in told["rows"]:
        lines.append(
            f"| {row['losses']} | {row['seam_ratio']:.3f} ± {row['seam_ratio_error']:.3f} "
            f"| {row['l1']:.4f} | {row['images_per_s']:.2f} | {row['peak_memory_gib']:.2f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
