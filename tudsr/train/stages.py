"""The two stages: training at R (paper, Alg. 1) and looped-chunk training at N·R (Alg. 2)."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tudsr.errors import SettingsError
from tudsr.images.atomic import remove_dir, remove_leftovers, writing_dir
from tudsr.model.adapters import (
    activate,
    adapter_state,
    add_adapter,
    load_adapter,
    load_adapter_state,
    save_adapter,
)
from tudsr.model.base import Base, load_base
from tudsr.model.critic import load_heads, save_heads
from tudsr.model.precision import at_least_single
from tudsr.profile import Profile, StageSettings
from tudsr.train.adversarial import AdversarialStep, add_losses
from tudsr.train.chunks import check_side, chunk, enlarge, side_by_side, unchunk
from tudsr.train.device import autocast, data_workers, pick_device
from tudsr.train.launch import Job, launch, launches
from tudsr.train.loop import Plan, train
from tudsr.train.memory import explaining_out_of_memory, explaining_setup_out_of_memory
from tudsr.train.pairs import TrainingPairs
from tudsr.train.ranks import first_of_share, join, rank
from tudsr.train.record import Recorder
from tudsr.train.stage_inputs import stage_inputs
from tudsr.train.whole import accumulate_whole

STAGE1, STAGE2 = "stage1", "stage2"
HEADS = "critic.safetensors"


def train_stage1(
    profile: Profile,
    photos: Sequence[Path],
    out: Path,
    work: Path,
    recorders: Sequence[Recorder] = (),
    resume: bool = False,
) -> dict[str, float]:
    """Train adapter 1 at R; ``out`` gets ``adapter.safetensors``, figures and sample pictures.

    Checkpoints go to a folder under ``work`` that the inputs name: calling again after a kill goes
    on from there, other settings start anew beside it (with ``resume`` they are an error that says
    which differ), and success removes it. ``runtime.devices`` above 1 starts as many processes.
    Returns the last figures (on ranks other than 0 nothing).
    """
    if launches(profile.runtime):
        return launch(Job.of("stage1", profile, photos, None, out, work, recorders, resume))
    with explaining_setup_out_of_memory(STAGE1):
        base = _training_base(profile, profile.stage1)
        add_adapter(base.unet, STAGE1, profile.stage1.lora, profile.seed)
        activate(base.unet, STAGE1)
        task = StageOne(base, profile, _watched(profile, photos, "stage1"))
    return _train(task, profile, "stage1", photos, out, work, recorders, (), resume)


def train_stage2(
    profile: Profile,
    photos: Sequence[Path],
    adapter1: Path,
    out: Path,
    work: Path,
    recorders: Sequence[Recorder] = (),
    resume: bool = False,
) -> dict[str, float]:
    """Train adapter 2 at N·R on chunks, after the frozen adapter 1; as ``train_stage1`` else.

    Raises:
        SettingsError: no adapter 1 at that place.
    """
    if not adapter1.is_file():
        raise SettingsError(
            f"no adapter 1 at '{adapter1}': run `tudsr train stage1` first, or give its result "
            "with --adapter1"
        )
    if launches(profile.runtime):
        return launch(Job.of("stage2", profile, photos, adapter1, out, work, recorders, resume))
    with explaining_setup_out_of_memory(STAGE2):
        base = _training_base(profile, profile.stage2)
        t1 = load_adapter(adapter1, base.unet, STAGE1, base.files_hash)
        add_adapter(base.unet, STAGE2, profile.stage2.lora, profile.seed + 1)
        if profile.stage2.lora.warm_start:
            load_adapter_state(base.unet, STAGE2, adapter_state(base.unet, STAGE1))
        activate(base.unet, STAGE2)
        task = StageTwo(base, profile, t1, _watched(profile, photos, "stage2"))
    extra = [adapter1]
    if profile.stage2.critic.warm_start:
        extra.append(adapter1.with_name(HEADS))
        load_heads(extra[-1], task.step.critic)
    return _train(task, profile, "stage2", photos, out, work, recorders, extra, resume)


def _training_base(profile: Profile, settings: StageSettings) -> Base:
    base = load_base(profile.base).to(pick_device(profile.runtime))
    check_side(base, profile.base.r_px)
    if settings.gradient_checkpointing:
        base.checkpoint_gradients()
    return base


class StageOne:
    """Alg. 1: restore an R x R picture, generator and critic in turn."""

    def __init__(self, base: Base, profile: Profile, watched: dict[str, Tensor]) -> None:
        self.base, self.settings, self.watched = base, profile.stage1, watched
        self.unit, self.group = self.settings.batch, self.settings.batch * self.settings.accumulate
        self.step = AdversarialStep(base, STAGE1, self.settings, profile.runtime, profile.seed)

    def update(self, batch: dict[str, Tensor], images_seen: int, rate: float) -> dict[str, Tensor]:
        """One optimizer step on ``group`` pairs, this rank's share of them here."""
        device, size = self.step.device, self.settings.batch
        parts = zip(batch["lr"].split(size), batch["hr"].split(size), strict=True)
        share, first = 1 / self.settings.accumulate, first_of_share(images_seen, self.group)
        losses: dict[str, Tensor] = {}
        for i, (lr, hr) in enumerate(parts):
            pair, number = (lr.to(device), hr.to(device)), first + i * size
            part = self.step.accumulate(*pair, images_seen, share, number)
            add_losses(losses, part, share)
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
        return side_by_side(self.watched["lr"], restored, self.watched["hr"])


class StageTwo:
    """Alg. 2: stage 1's output x N, then chunk after chunk with a backward each.

    The peak of memory is that of one R x R chunk, whatever N is.
    """

    def __init__(self, base: Base, profile: Profile, t1: int, watched: dict[str, Tensor]) -> None:
        self.base, self.settings, self.watched, self.t1 = base, profile.stage2, watched, t1
        self.chunks = self.settings.n**2
        images = max(1, self.settings.accumulate // self.chunks)
        self.unit, self.group = self.settings.batch, self.settings.batch * images
        self.passes = self.chunks * images
        self.r_px = profile.base.r_px
        self.interpolation = profile.upscale.interpolation
        seeds = profile.seed, profile.seed + 1
        self.step = AdversarialStep(base, STAGE2, self.settings, profile.runtime, *seeds)

    def update(self, batch: dict[str, Tensor], images_seen: int, rate: float) -> dict[str, Tensor]:
        """Loop over all chunks of ``group`` images; a step every ``accumulate`` chunks.

        Several ranks share the images, and the step comes after all chunks.
        """
        device, losses, count = self.step.device, dict[str, Tensor](), 0
        size, every = self.settings.batch, self.settings.accumulate
        first = first_of_share(images_seen, self.group)
        for i, (lr, hr) in enumerate(
            zip(batch["lr"].split(size), batch["hr"].split(size), strict=True)
        ):
            pair, number = (self.stage2_input(lr.to(device)), hr.to(device)), first + i * size
            for chunks, part in self._backward_passes(*pair, images_seen, number):
                add_losses(losses, part, chunks / self.passes)
                count += chunks
                if count % every == 0:
                    self.step.apply(rate)
        if count % every:
            self.step.apply(rate)
        return losses

    def _backward_passes(
        self, y_lr: Tensor, hr: Tensor, images_seen: int, first: int
    ) -> Generator[tuple[int, dict[str, Tensor]]]:
        """How many chunks each backward pass was for, and its losses."""
        share, parts = 1 / self.settings.accumulate, chunk(y_lr, self.r_px)
        if self.settings.whole_image_losses:
            share *= self.chunks
            whole = accumulate_whole(self.step, parts, hr, images_seen, share, first)
            yield self.chunks, whole
            return
        for which, pair in enumerate(zip(parts, chunk(hr, self.r_px), strict=True)):
            yield 1, self.step.accumulate(*pair, images_seen, share, first, which)

    @torch.no_grad()
    def stage2_input(self, lr: Tensor) -> Tensor:
        """y_L = G1(x_L) enlarged x N: (B, 3, R, R) to (B, 3, N·R, N·R), in [0, 1]."""
        activate(self.base.unet, STAGE1)
        with autocast(self.step.device, self.step.runtime):
            middle = at_least_single(self.base.restore(lr, self.t1)).clamp(0, 1)
        activate(self.base.unet, STAGE2)
        return enlarge(middle, self.settings.n, self.interpolation.before_stage2)

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
        return side_by_side(y_lr.cpu(), unchunk(parts, self.settings.n).cpu(), self.watched["hr"])


def _train(
    task: StageOne | StageTwo,
    profile: Profile,
    stage: Literal["stage1", "stage2"],
    photos: Sequence[Path],
    out: Path,
    work: Path,
    recorders: Sequence[Recorder],
    extra: Sequence[Path],
    resume: bool,
) -> dict[str, float]:
    settings = getattr(profile, stage)
    join(profile.runtime, task.step.device)
    inputs = stage_inputs(profile, stage, photos, extra)
    plan = Plan(
        name=stage.replace("stage", "stage "),
        images=settings.images,
        out=work / inputs.key[:12],
        inputs=inputs,
        warmup=settings.warmup,
        cooldown=settings.cooldown,
        checkpoint_every=settings.checkpoint_every,
        log_every=settings.log_every,
        sample_every=settings.sample_every,
        resume=resume,
        workers=data_workers(profile.runtime, task.step.device),
        recorders=recorders,
    )
    pairs = _pairs(profile, stage, photos, profile.seed)
    with explaining_out_of_memory(stage, settings, task.step, profile.base.r_px):
        figures = train(task, pairs, plan)
    if rank() == 0:
        _finish(task, stage, settings, plan, out)
    return figures


def _finish(
    task: StageOne | StageTwo, stage: str, settings: StageSettings, plan: Plan, out: Path
) -> None:
    """Write the result, then remove the checkpoints; a kill in between loses nothing."""
    if settings.ema:
        task.step.ema.copy_to(task.step.parameters)
    remove_leftovers(out.parent, out.name)
    with writing_dir(out) as folder:
        adapter = folder / "adapter.safetensors"
        described = settings.lora, settings.timestep, task.base.files_hash
        save_adapter(adapter, task.base.unet, stage, *described)
        save_heads(folder / HEADS, task.step.critic)
        shutil.copy2(plan.out / "metrics.jsonl", folder)
        shutil.copytree(plan.out / "samples", folder / "samples")
    remove_dir(plan.out)


def _pairs(profile: Profile, stage: str, photos: Sequence[Path], seed: int) -> TrainingPairs:
    settings = getattr(profile, stage)
    return TrainingPairs(photos, profile, settings.n * profile.base.r_px, settings.scales, seed)


def _watched(profile: Profile, photos: Sequence[Path], stage: str) -> dict[str, Tensor]:
    """Three pairs of the same kind, of a seed that training never uses."""
    pairs = _pairs(profile, stage, photos[:3], profile.seed + 10**6)
    items = [pairs[i] for i in range(3)]
    return {name: torch.stack([item[name] for item in items]) for name in ("lr", "hr")}
