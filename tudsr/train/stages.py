"""The two stages: training at R (paper, Alg. 1) and looped-chunk training at N·R (Alg. 2)."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from tudsr.images.atomic import writing_dir
from tudsr.model.adapters import (
    activate,
    adapter_state,
    add_adapter,
    load_adapter,
    load_adapter_state,
    save_adapter,
)
from tudsr.model.base import Base, load_base
from tudsr.profile import Profile
from tudsr.train.adversarial import AdversarialStep
from tudsr.train.checkpoint import inputs_key
from tudsr.train.device import autocast, data_workers, pick_device
from tudsr.train.loop import Plan, train
from tudsr.train.pairs import TrainingPairs
from tudsr.train.record import Recorder

STAGE1, STAGE2 = "stage1", "stage2"


def train_stage1(
    profile: Profile,
    photos: Sequence[Path],
    out: Path,
    work: Path,
    recorders: Sequence[Recorder] = (),
) -> dict[str, float]:
    """Train adapter 1 at R; ``out`` gets ``adapter.safetensors``, figures and sample pictures.

    Checkpoints go to a folder under ``work`` that the inputs name: calling again after a kill goes
    on from there, other settings start anew beside it, and success removes it. Returns the last
    figures.
    """
    base = load_base(profile.base).to(pick_device(profile.runtime))
    add_adapter(base.unet, STAGE1, profile.stage1.lora, profile.seed)
    activate(base.unet, STAGE1)
    task = StageOne(base, profile, _watched(profile, photos, "stage1"))
    return _train(task, profile, "stage1", photos, out, work, recorders, extra=())


def train_stage2(
    profile: Profile,
    photos: Sequence[Path],
    adapter1: Path,
    out: Path,
    work: Path,
    recorders: Sequence[Recorder] = (),
) -> dict[str, float]:
    """Train adapter 2 at N·R on chunks, after the frozen adapter 1; as ``train_stage1`` else."""
    base = load_base(profile.base).to(pick_device(profile.runtime))
    t1 = load_adapter(adapter1, base.unet, STAGE1)
    add_adapter(base.unet, STAGE2, profile.stage2.lora, profile.seed + 1)
    if profile.stage2.lora.warm_start:
        load_adapter_state(base.unet, STAGE2, adapter_state(base.unet, STAGE1))
    activate(base.unet, STAGE2)
    task = StageTwo(base, profile, t1, _watched(profile, photos, "stage2"))
    return _train(task, profile, "stage2", photos, out, work, recorders, extra=(adapter1,))


class StageOne:
    """Alg. 1: restore an R x R picture, generator and critic in turn."""

    def __init__(self, base: Base, profile: Profile, watched: dict[str, Tensor]) -> None:
        self.base, self.settings, self.watched = base, profile.stage1, watched
        self.group = self.settings.batch * self.settings.accumulate
        self.step = AdversarialStep(base, STAGE1, self.settings, profile.runtime, profile.seed)

    def update(self, batch: dict[str, Tensor], images_seen: int, rate: float) -> dict[str, Tensor]:
        """One optimizer step on ``group`` pairs."""
        device, size = self.step.device, self.settings.batch
        parts = zip(batch["lr"].split(size), batch["hr"].split(size), strict=True)
        share = 1 / self.settings.accumulate
        losses: dict[str, Tensor] = {}
        for lr, hr in parts:
            losses |= self.step.accumulate(lr.to(device), hr.to(device), images_seen, share)
        self.step.apply(rate)
        return losses

    def tensors(self) -> dict[str, Tensor]:
        """The step's state."""
        return self.step.tensors()

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over a checkpoint."""
        self.step.load(tensors)

    def sample(self) -> NDArray[np.float32]:
        """Input, result and truth side by side, for watched crops."""
        lr = self.watched["lr"].to(self.step.device)
        with torch.inference_mode(), autocast(self.step.device, self.step.runtime):
            restored = self.base.restore(lr, self.settings.timestep).float().cpu()
        return _side_by_side(self.watched["lr"], restored, self.watched["hr"])


class StageTwo:
    """Alg. 2: stage 1's output, bilinear x N, then chunk after chunk with a backward each.

    The peak of memory is that of one R x R chunk, whatever N is.
    """

    def __init__(self, base: Base, profile: Profile, t1: int, watched: dict[str, Tensor]) -> None:
        self.base, self.settings, self.watched, self.t1 = base, profile.stage2, watched, t1
        self.chunks = self.settings.n**2
        images = max(1, self.settings.accumulate // self.chunks)
        self.group = self.settings.batch * images
        self.r_px = profile.base.r_px
        self.step = AdversarialStep(base, STAGE2, self.settings, profile.runtime, profile.seed + 1)

    def update(self, batch: dict[str, Tensor], images_seen: int, rate: float) -> dict[str, Tensor]:
        """Loop over all chunks of ``group`` images; a step every ``accumulate`` chunks."""
        device, losses, count = self.step.device, dict[str, Tensor](), 0
        size, every = self.settings.batch, self.settings.accumulate
        for lr, hr in zip(batch["lr"].split(size), batch["hr"].split(size), strict=True):
            y_lr = self.stage2_input(lr.to(device))
            pairs = zip(chunk(y_lr, self.r_px), chunk(hr.to(device), self.r_px), strict=True)
            for chunk_lr, chunk_hr in pairs:
                losses |= self.step.accumulate(chunk_lr, chunk_hr, images_seen, 1 / every)
                count += 1
                if count % every == 0:
                    self.step.apply(rate)
        if count % every:
            self.step.apply(rate)
        return losses

    @torch.no_grad()
    def stage2_input(self, lr: Tensor) -> Tensor:
        """y_L = bilinear x N of G1(x_L): (B, 3, R, R) to (B, 3, N·R, N·R), in [0, 1]."""
        activate(self.base.unet, STAGE1)
        with autocast(self.step.device, self.step.runtime):
            middle = self.base.restore(lr, self.t1).float().clamp(0, 1)
        activate(self.base.unet, STAGE2)
        return enlarge(middle, self.settings.n)

    def tensors(self) -> dict[str, Tensor]:
        """The step's state."""
        return self.step.tensors()

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over a checkpoint."""
        self.step.load(tensors)

    def sample(self) -> NDArray[np.float32]:
        """Stage 2's input, its result (chunk by chunk) and the truth side by side."""
        y_lr = self.stage2_input(self.watched["lr"].to(self.step.device))
        with torch.inference_mode(), autocast(self.step.device, self.step.runtime):
            parts = [
                self.base.restore(c, self.settings.timestep).float() for c in chunk(y_lr, self.r_px)
            ]
        return _side_by_side(y_lr.cpu(), unchunk(parts, self.settings.n).cpu(), self.watched["hr"])


def enlarge(images: Tensor, n: int) -> Tensor:
    """Bilinear x N between the stages, in training and at inference alike."""
    return F.interpolate(images, scale_factor=n, mode="bilinear", align_corners=False)


def chunk(images: Tensor, r_px: int) -> list[Tensor]:
    """Cut (B, 3, N·R, N·R) into N² non-overlapping (B, 3, R, R), row by row (paper, Eq. 10)."""
    rows = images.split(r_px, dim=2)
    return [part for row in rows for part in row.split(r_px, dim=3)]


def unchunk(chunks: Sequence[Tensor], n: int) -> Tensor:
    """The exact inverse of ``chunk``."""
    rows = [torch.cat(list(chunks[i * n : (i + 1) * n]), dim=3) for i in range(n)]
    return torch.cat(rows, dim=2)


def _train(
    task: StageOne | StageTwo,
    profile: Profile,
    stage: Literal["stage1", "stage2"],
    photos: Sequence[Path],
    out: Path,
    work: Path,
    recorders: Sequence[Recorder],
    extra: Sequence[Path],
) -> dict[str, float]:
    settings = getattr(profile, stage)
    key = _key(profile, stage, photos, extra)
    plan = Plan(
        name=stage.replace("stage", "stage "),
        images=settings.images,
        out=work / key[:12],
        key=key,
        warmup=settings.warmup,
        cooldown=settings.cooldown,
        checkpoint_every=settings.checkpoint_every,
        sample_every=settings.sample_every,
        workers=data_workers(profile.runtime, task.step.device),
        recorders=recorders,
    )
    figures = train(task, _pairs(profile, stage, photos, profile.seed), plan)
    if settings.ema:
        task.step.ema.copy_to(task.step.parameters)
    with writing_dir(out) as folder:
        adapter = folder / "adapter.safetensors"
        save_adapter(adapter, task.base.unet, stage, settings.lora, settings.timestep)
        shutil.copy2(plan.out / "metrics.jsonl", folder)
        shutil.copytree(plan.out / "samples", folder / "samples")
    shutil.rmtree(plan.out)
    return figures


def _pairs(profile: Profile, stage: str, photos: Sequence[Path], seed: int) -> TrainingPairs:
    settings, r_px, bad = getattr(profile, stage), profile.base.r_px, profile.data.max_bad_share
    hr_px = r_px * settings.n
    return TrainingPairs(photos, hr_px, r_px, settings.scales, profile.degradation, seed, bad)


def _watched(profile: Profile, photos: Sequence[Path], stage: str) -> dict[str, Tensor]:
    """Three pairs of the same kind, of a seed that training never uses."""
    pairs = _pairs(profile, stage, photos[:3], profile.seed + 10**6)
    items = [pairs[i] for i in range(3)]
    return {name: torch.stack([item[name] for item in items]) for name in ("lr", "hr")}


def _key(profile: Profile, stage: str, photos: Sequence[Path], extra: Sequence[Path]) -> str:
    decisive = profile.model_dump(
        include={
            stage: True,
            "degradation": True,
            "base": True,
            "seed": True,
            # How many workers make the samples changes no result.
            "runtime": {"device", "precision"},
        }
    )
    folder = Path(profile.base.source)
    files = [folder / "base.json"] if profile.base.random_seed is None else []
    return inputs_key(decisive, [*photos, *extra, *files])


def _side_by_side(left: Tensor, middle: Tensor, right: Tensor) -> NDArray[np.float32]:
    rows = torch.cat([left, middle.clamp(0, 1), right], dim=3)
    return torch.cat(list(rows), dim=1).permute(1, 2, 0).contiguous().numpy()
