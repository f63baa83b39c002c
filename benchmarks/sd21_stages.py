"""Both stages of the paper's configuration on random weights: do losses and gradients stay finite?

    python -m benchmarks.sd21_stages [--device cuda] [--stage 1 2] [--precision fp32 tf32 bf16]
        [--critic vit vgg] [--updates 300] [--minutes 8]

The real tasks of profile `sd21` (its adapters, losses and optimizers; the loss trunk is VGG16's
architecture and the critic's DINOv3-ViT-B/16's, drawn at random) take optimizer steps on one fixed,
drawn picture. Told are the losses and the norm of the adapter's gradient of every step, the mean
loss of the first and the last 20, seconds a step and peak memory. Random weights restore nothing:
nothing is claimed of pictures. ``--critic vgg`` puts VGG16's architecture there too. Writes
benchmarks/results/sd21-stages-DEVICE-ARCH[-PRECISION][-stageN].{json,md}.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from typing import Any

import torch

from benchmarks.drawn import drawn_pair
from benchmarks.live_memory import device_peak_mib
from benchmarks.looped_chunk import random_vit
from benchmarks.machine import machine_name
from tudsr.images.atomic import write_json, write_text
from tudsr.machine import keep_freed_memory
from tudsr.model.adapters import activate, add_adapter
from tudsr.model.base import Base, random_base
from tudsr.profile import PROJECT_ROOT, Profile, load_profile
from tudsr.train.stages import STAGE1, STAGE2, StageOne, StageTwo

RESULTS = PROJECT_ROOT / "benchmarks" / "results"
_MEAN_OF = 20
RANDOM_VGG: dict[str, Any] = {"trunk": "random", "trunk_path": None}
CRITICS = {"vit": "a ViT-B/16 of DINOv3's size", "vgg": "VGG16's architecture"}


def main() -> None:
    """Train each stage in each precision and write what was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", default="sd21")
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--r-px", type=int, default=512)
    parser.add_argument("--stage", type=int, nargs="+", default=[1, 2], choices=[1, 2])
    parser.add_argument("--precision", nargs="+", default=["bf16"])
    parser.add_argument("--critic", default="vit", choices=sorted(CRITICS))
    parser.add_argument("--updates", type=int, default=300)
    parser.add_argument("--minutes", type=float, default=8.0, help="for each stage and precision")
    parser.add_argument("--lr", type=float, default=5e-5, help="the paper's is 5e-5")
    parser.add_argument("--checkpointed", action="store_true", help="gradient checkpointing")
    given = parser.parse_args()
    keep_freed_memory()
    rows: list[dict[str, Any]] = []
    for precision in given.precision:
        for stage in given.stage:
            rows.append(trial(given, stage, precision))
            print(_sentence(rows[-1]), flush=True)
            _write(given, rows)


def trial(given: argparse.Namespace, stage: int, precision: str) -> dict[str, Any]:
    """Steps of one stage on one picture, until the number or the time is reached."""
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    base = random_base(given.arch, 0, given.device)
    if given.checkpointed:
        base.checkpoint_gradients()
    with tempfile.TemporaryDirectory() as folder:
        critic = random_vit(folder) if given.critic == "vit" else RANDOM_VGG
        how = "bf16" if precision == "bf16" else "fp32"
        profile = random_profile(given.device, given.r_px, how, given.lr, critic)
        task = build(base, one_picture(profile), stage)
    pair = drawn_pair(given.r_px, given.r_px * task.settings.n, seed=0)
    batch = {name: image[None] for name, image in pair.items()}
    norms: list[float] = []
    _note_gradients(task, norms)
    losses: list[dict[str, float]] = []
    seconds: list[float] = []
    ends = time.monotonic() + 60 * given.minutes
    with device_peak_mib(given.device) as peak:
        while len(losses) < given.updates and (not seconds or time.monotonic() < ends):
            began = time.perf_counter()
            told = task.update(batch, len(losses), 1.0)
            losses.append({name: float(value) for name, value in told.items()})
            seconds.append(time.perf_counter() - began)
    row = {"stage": stage, "precision": precision, "r_px": given.r_px, "losses": losses}
    return {**row, "gradient_norms": norms, "seconds": seconds, "peak_mib": peak.mib}


def build(base: Base, profile: Profile, stage: int) -> StageOne | StageTwo:
    """The stage's own task with fresh adapters on ``base``."""
    names = (STAGE1, STAGE2)[:stage]
    for seed, name in enumerate(names):
        add_adapter(base.unet, name, profile.stage1.lora, seed)
    activate(base.unet, names[-1])
    if stage == 1:
        return StageOne(base, profile, {})
    return StageTwo(base, profile, profile.stage1.timestep, {})


def random_profile(
    device: str, r_px: int, precision: str, lr: float, critic: dict[str, Any] = RANDOM_VGG
) -> Profile:
    """Profile `sd21` with trunks that need no published weights; ``critic``'s is as given."""
    profile = load_profile("sd21")
    runtime = {"device": device, "precision": precision}
    changes: dict[str, Any] = {
        "base": profile.base.model_copy(update={"r_px": r_px}),
        "runtime": profile.runtime.model_copy(update=runtime),
    }
    for name in ("stage1", "stage2"):
        stage = getattr(profile, name)
        heads = {**critic, "levels": None, "lr": lr}
        update = {
            "lr": lr,
            "critic": stage.critic.model_copy(update=heads),
            "loss": stage.loss.model_copy(update=RANDOM_VGG),
        }
        changes[name] = stage.model_copy(update=update)
    return profile.model_copy(update=changes)


def one_picture(profile: Profile) -> Profile:
    """The same with one picture an optimizer step."""
    stages = {name: getattr(profile, name) for name in ("stage1", "stage2")}
    single = {k: s.model_copy(update={"accumulate": s.n**2}) for k, s in stages.items()}
    return profile.model_copy(update=single)


def _note_gradients(task: StageOne | StageTwo, norms: list[float]) -> None:
    apply = task.step.apply

    def noting(rate: float) -> None:
        found = [p.grad.norm() for p in task.step.parameters if p.grad is not None]
        norms.append(float(torch.stack(found).norm()))
        apply(rate)

    task.step.apply = noting


def summary(row: dict[str, Any]) -> dict[str, Any]:
    """What the table shows of one trial."""
    totals = [losses["loss_total"] for losses in row["losses"]]
    values = [value for losses in row["losses"] for value in losses.values()]
    whole = len(totals) >= 2 * _MEAN_OF
    first, last = statistics.mean(totals[:_MEAN_OF]), statistics.mean(totals[-_MEAN_OF:])
    return {
        "updates": len(totals),
        "finite": all(map(math.isfinite, [*values, *row["gradient_norms"]])),
        "first": first if whole else None,
        "last": last if whole else None,
        "seconds": statistics.median(row["seconds"]),
        "gradient": (min(row["gradient_norms"]), max(row["gradient_norms"])),
    }


def _sentence(row: dict[str, Any]) -> str:
    told = summary(row)
    finite = "all finite" if told["finite"] else "NOT ALL FINITE"
    return (
        f"stage {row['stage']}, {row['precision']}: {told['updates']} steps, losses and gradients "
        f"{finite}, {_fall(told)}, {told['seconds']:.2f} s a step, {row['peak_mib']:.0f} MiB"
    )


def _fall(told: dict[str, Any]) -> str:
    if told["first"] is None:
        return f"too few steps to compare {_MEAN_OF} with {_MEAN_OF}"
    word = "falls" if told["last"] < told["first"] else "DOES NOT FALL"
    return f"mean loss {word}: {told['first']:.4f} to {told['last']:.4f}"


def _write(given: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    name = f"sd21-stages-{given.device}-{given.arch}"
    name += f"-{given.precision[0]}" if len(given.precision) == 1 else ""
    name += f"-stage{given.stage[0]}" if len(given.stage) == 1 else ""
    told = {"machine": machine_name(given.device), "arch": given.arch, "lr": given.lr}
    told |= {"critic": CRITICS[given.critic]}
    told |= {"gradient_checkpointing": given.checkpointed, "rows": rows}
    write_json(RESULTS / f"{name}.json", told)
    lines = [
        f"{told['machine']}; {given.arch} with random weights, the critic on {told['critic']}, one "
        f"fixed picture, rate {given.lr:g}"
        f"{', gradient checkpointing' if given.checkpointed else ''}.",
        "",
        "| stage | R | precision | steps | finite | gradient norm | loss, first 20 and last 20 "
        "| seconds a step | peak, MiB |",
        "| --: | --: | --- | --: | --- | --- | --- | --: | --: |",
    ]
    for row in rows:
        seen = summary(row)
        low, high = seen["gradient"]
        cells = (row["stage"], row["r_px"], row["precision"], seen["updates"])
        lines.append(
            f"| {' | '.join(map(str, cells))} | {'yes' if seen['finite'] else 'NO'} "
            f"| {low:.3g} to {high:.3g} | {_fall(seen)} | {seen['seconds']:.2f} "
            f"| {row['peak_mib']:.0f} |"
        )
    write_text(RESULTS / f"{name}.md", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
