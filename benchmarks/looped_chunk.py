"""Goals T1 and T2: what a looped chunk needs beside native training at N·R, by the same losses.

    python -m benchmarks.looped_chunk [--arch sd21] [--device meta|cpu|cuda] [--r-px 512]

On meta tensors (the default) the true architecture runs without weights or time, in fp32, and every
live tensor is counted exactly; attention is counted as flash attention keeps it. So are the
operations of all matrix products, which bound T2 where they fill the device. On the CPU the same
peak, and times, in bf16; on a GPU the allocator's own peak and times. Native training is the same
step on the un-cut N·R picture; the two take turns. The loss trunk is VGG16's architecture, and so
is the critic's but for the kind that names DINOv3-ViT-B/16; of sd21-eighth they have an eighth of
the channels too. Writes
benchmarks/results/looped-chunk-DEVICE-ARCH[-TAG].{json,md}.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Literal

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from benchmarks.live_memory import LiveMemory, attention_without_scores
from benchmarks.machine import machine_name
from benchmarks.operations import Operations
from tudsr.images.atomic import write_json, write_text
from tudsr.model.adapters import activate, add_adapter
from tudsr.model.base import Base, random_base
from tudsr.model.codec import KlCodec
from tudsr.model.stable_diffusion import unet_config, vae_config
from tudsr.profile import PROJECT_ROOT, Profile, load_profile
from tudsr.train.stages import STAGE1, STAGE2, StageTwo

RESULTS = PROJECT_ROOT / "benchmarks" / "results"
MIB = 2**20
Step = Callable[..., Any]
VIT = "whole-image losses, ViT critic"
VIT_B: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "num_register_tokens": 4,
    "patch_size": 16,
}
_NOT_COUNTED = (
    "An empty cell: that row's peak was measured before operations were counted, and it was not "
    "run again since; without operations there is no ratio either."
)
KINDS = ("looped", "looped, checkpointed", "whole-image losses", VIT, "native")


def main() -> None:
    """Measure every N asked for and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", default="sd21")
    parser.add_argument("--device", default="meta", choices=["meta", "cpu", "cuda"])
    parser.add_argument("--r-px", type=int, default=512)
    parser.add_argument("--n", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--native", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--kind", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--tag", default="", help="added to the names of the files")
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for n in given.n:
        kinds = [k for k in given.kind if k != "native" or n in given.native]
        for kind in kinds:
            how = (given.arch, given.device, given.r_px, n, kind)
            rows.append(measure(*how, operations=given.device == "meta"))
            print(rows[-1], flush=True)
            _write(given, rows)
        if given.device != "meta":
            _time(given, n, [row for row in rows if row["n"] == n])
            _write(given, rows)
    print(table(rows))


def _time(given: argparse.Namespace, n: int, rows: list[dict[str, Any]]) -> None:
    """Seconds of a step of each kind that fits, in turns; the first round is not counted."""
    fitting = [row for row in rows if "peak_mib" in row]
    steps = [prepared(given.arch, given.device, given.r_px, n, row["kind"]) for row in fitting]
    for run in range(given.runs + 1):
        for row, (step, batch) in zip(fitting, steps, strict=True):
            seconds = _seconds(step, batch, given.device)
            if run:
                row.setdefault("seconds", []).append(seconds)
        print([round(row["seconds"][-1], 2) for row in fitting if run], flush=True)


def _write(given: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    name = f"looped-chunk-{given.device}-{given.arch}" + (f"-{given.tag}" if given.tag else "")
    told = {
        "machine": machine_name(given.device),
        "arch": given.arch,
        "r_px": given.r_px,
        "rows": rows,
    }
    write_json(RESULTS / f"{name}.json", told)
    write_text(RESULTS / f"{name}.md", table(rows))


def measure(
    arch: str, device: str, r_px: int, n: int, kind: str, operations: bool = False
) -> dict[str, Any]:
    """Peak MiB of one optimizer step on one picture, and its TFLOP where asked for."""
    step, batch = prepared(arch, device, r_px, n, kind)
    row: dict[str, Any] = {"n": n, "kind": kind}
    with attention_without_scores() if device == "meta" else nullcontext():
        row |= _peak(step, batch, device)
    return row | {"tflop": _tflop(step, batch)} if operations else row


def prepared(
    arch: str, device: str, r_px: int, n: int, kind: str
) -> tuple[Step, dict[str, torch.Tensor]]:
    """A kind's optimizer step on random weights, and one random picture for it."""
    base = _shapes(arch) if device == "meta" else random_base(arch, 0, device)
    if kind.endswith("checkpointed"):
        base.checkpoint_gradients()
    trunk = "random_eighth" if arch == "sd21-eighth" else "random"
    task = stage_two(base, r_px, n, kind.startswith("whole-image"), kind == VIT, trunk)
    step = _native(task) if kind == "native" else task.update
    _begin_optimizers(task)
    sides = (("lr", r_px), ("hr", n * r_px))
    return step, {k: torch.rand(1, 3, s, s).to(device) for k, s in sides}


def _begin_optimizers(task: StageTwo) -> None:
    """The optimizers' moments, which a first step of all N² chunks would make on the way."""
    for parameter in [*task.step.parameters, *task.step.heads]:
        parameter.grad = torch.zeros_like(parameter)
    task.step.apply(1.0)


def _peak(step: Step, batch: dict[str, Any], device: str) -> dict[str, Any]:
    try:
        if device == "cuda":
            step(batch, 0, 1.0)  # libraries take their workspaces
        return {"peak_mib": _peak_mib(step, batch, device)}
    except torch.OutOfMemoryError as error:  # what native training at 2048 pixels may come to
        return {"out_of_memory": str(error).splitlines()[0]}


def stage_two(
    base: Base,
    r_px: int,
    n: int,
    whole: bool = False,
    vit: bool = False,
    trunk: Literal["random", "random_eighth"] = "random",
) -> StageTwo:
    """Algorithm 2 in bf16 on random weights: rank 32, EA-DISTS on both terms, a critic."""
    profile = load_profile("sd21")
    with tempfile.TemporaryDirectory() as folder:
        critic = random_vit(folder) if vit else {"trunk": trunk, "trunk_path": None}
        settings = _settings(profile, base, r_px, n, whole, {**critic, "levels": None}, trunk)
        for seed, name in enumerate((STAGE1, STAGE2)):
            with torch.device(base.prompt.device):
                add_adapter(base.unet, name, profile.stage2.lora, seed)
        activate(base.unet, STAGE2)
        return StageTwo(base, profile.model_copy(update=settings), profile.stage1.timestep, {})


def _settings(
    profile: Profile, base: Base, r_px: int, n: int, whole: bool, critic: dict[str, Any], trunk: str
) -> dict[str, Any]:
    """Parts of a profile for stage 2 on one picture."""
    loss = profile.stage2.loss.model_copy(update={"trunk": trunk, "l1_only_images": 0})
    change = {
        "n": n,
        "accumulate": n * n,
        "critic": profile.stage2.critic.model_copy(update=critic),
        "loss": loss,
        "latent": "mode",
    }
    stage = profile.stage2.model_copy(update={**change, "whole_image_losses": whole})
    precision = "fp32" if base.prompt.is_meta else "bf16"
    return {
        "base": profile.base.model_copy(update={"r_px": r_px}),
        "stage2": stage,
        "runtime": profile.runtime.model_copy(update={"precision": precision}),
    }


def random_vit(folder: str) -> dict[str, Any]:
    """Settings of the paper's critic with random weights, which go to ``folder``."""
    DINOv3ViTModel(DINOv3ViTConfig(**VIT_B)).save_pretrained(folder)
    return {"trunk": "dinov3", "trunk_path": folder}


def _shapes(arch: str) -> Base:
    """A base on meta tensors; its schedule is real."""
    scheduler = random_base("smoke", 0).scheduler
    with torch.device("meta"):
        unet = UNet2DConditionModel(**unet_config(arch))
        codec = KlCodec(AutoencoderKL(**vae_config(arch)))
        prompt = torch.empty(1, 77, int(unet.config["cross_attention_dim"]))
    return Base(codec, unet, scheduler, prompt).eval().requires_grad_(False)


def _native(task: StageTwo) -> Step:
    """The same losses and steps on the un-cut picture: what one would do with the memory for it."""

    def update(batch: dict[str, torch.Tensor], images_seen: int, rate: float) -> None:
        y_lr = task.stage2_input(batch["lr"])
        task.step.accumulate(y_lr, batch["hr"], images_seen, 1.0)
        task.step.apply(rate)

    return update


def _tflop(step: Step, batch: dict[str, Any]) -> float:
    """Of one optimizer step's products of matrices; attention by its plain form, without what a
    flash kernel computes twice."""
    with Operations() as counted:
        step(batch, 1, 1.0)
    return counted.total / 1e12


def _peak_mib(step: Step, batch: dict[str, Any], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step(batch, 1, 1.0)
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / MIB
    with LiveMemory() as live:
        step(batch, 1, 1.0)
    return live.peak_bytes / MIB


def _seconds(step: Step, batch: dict[str, Any], device: str) -> float:
    started = time.perf_counter()
    step(batch, 2, 1.0)
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def table(rows: list[dict[str, Any]]) -> str:
    """Peaks and times or operations, each with its ratio to native training at the same N."""
    native = {row["n"]: row for row in rows if row["kind"] == "native"}
    work = "TFLOP" if any("tflop" in row for row in rows) else "seconds"
    lines = [
        f"| N | kind | peak of live tensors, MiB | to native | {work} a step | to native |",
        "| --: | --- | --: | --: | --: | --: |",
    ]
    for row in rows:
        if "peak_mib" not in row:
            lines.append(f"| {row['n']} | {row['kind']} | out of memory | | | |")
            continue
        peer = _whole(native.get(row["n"]))
        memory = f"{row['peak_mib'] / peer['peak_mib']:.3f}" if peer else "not run"
        cells = (row["n"], row["kind"], f"{row['peak_mib']:.0f}", memory, *_work(row, peer))
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    if work == "TFLOP" and any("tflop" not in row for row in rows):
        lines += ["", _NOT_COUNTED]
    return "\n".join(lines) + "\n"


def _work(row: dict[str, Any], peer: dict[str, Any] | None) -> tuple[str, str]:
    """Operations or seconds of a step, and their ratio to native."""
    if "tflop" in row:
        ratio = f"{row['tflop'] / peer['tflop']:.2f}" if peer else "not run"
        return f"{row['tflop']:.1f}", ratio
    if "seconds" not in row:
        return "", ""
    ratio = _time_ratio(row["seconds"], peer["seconds"]) if peer else "not run"
    return f"{statistics.median(row['seconds']):.2f}", ratio


def _whole(row: dict[str, Any] | None) -> dict[str, Any] | None:
    return row if row and "out_of_memory" not in row else None


def _time_ratio(mine: list[float], peer: list[float]) -> str:
    spread = max((max(t) - min(t)) / statistics.median(t) for t in (mine, peer))
    if spread > 0.10:
        return f"not judged: spread {spread:.0%}"
    return f"{statistics.median(mine) / statistics.median(peer):.2f}"


if __name__ == "__main__":
    main()
