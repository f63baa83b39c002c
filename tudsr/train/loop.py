"""The training loop: one for the base and both stages, read from top to bottom.

Images seen are the clock. Every random draw derives from (seed, images seen), so a killed run that
goes on from its newest checkpoint is the same run.
"""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from tudsr.errors import TrainingError
from tudsr.train.checkpoint import newest_checkpoint, save_checkpoint
from tudsr.train.device import keep_freed_memory
from tudsr.train.record import FileRecorder, Recorder
from tudsr.train.wait import DataWait

_LOG_EVERY_S = 2.0


class Task(Protocol):
    """What one kind of training computes; the loop knows nothing more."""

    group: int
    """Images taken for one call of ``update``."""

    def update(self, batch: Any, images_seen: int, rate: float) -> dict[str, Tensor]:
        """Train on ``group`` images at ``rate`` times the learning rate; return the losses."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Everything needed to go on."""
        ...

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what ``tensors`` gave."""
        ...

    def sample(self) -> NDArray[np.float32] | None:
        """An (H, W, 3) picture in [0, 1] that shows how far training is."""
        ...


@dataclass(frozen=True)
class Plan:
    """How long, how often and where."""

    name: str
    images: int
    out: Path
    key: str
    warmup: int = 0
    cooldown: float = 0.0
    checkpoint_every: int = 500
    sample_every: int | None = None
    workers: int = 1
    recorders: Sequence[Recorder] = field(default=())

    def rate(self, images_seen: int) -> float:
        """Share of the full learning rate: rising, 1, then falling linearly to a twentieth."""
        left = (self.images - images_seen) / max(1.0, self.images * self.cooldown)
        risen = (images_seen + 1) / (self.warmup + 1)
        return min(risen, max(0.05, min(1.0, left)))


def train(task: Task, data: Dataset[Any], plan: Plan) -> dict[str, float]:
    """Train ``task`` on ``data`` and return the last figures.

    Goes on from the newest complete checkpoint under ``plan.out``; figures go to
    ``plan.out/metrics.jsonl`` and to ``plan.recorders``.

    Raises:
        TrainingError: a loss that is not finite (the last checkpoint stays), or a checkpoint made
            with other settings.
    """
    keep_freed_memory()
    seen = _resume(task, plan)
    recorders = [FileRecorder(plan.out, seen), *plan.recorders]
    meter = _Meter(plan, seen)
    waiting = DataWait(_batches(task, data, plan, seen), getattr(data, "figures", dict))
    with meter:
        for batch in waiting:
            losses = task.update(batch, seen, plan.rate(seen))
            before, seen = seen, seen + task.group
            figures = meter.step(seen, losses)
            if figures or seen >= plan.images:
                figures = meter.last = {
                    **(figures or meter.figures(seen, losses)),
                    **waiting.figures(),
                }
                _check_finite(plan, seen, figures)
                for recorder in recorders:
                    recorder.log(seen, figures)
            if plan.sample_every and _crossed(before, seen, plan.sample_every):
                _record_sample(task, seen, recorders)
            if _crossed(before, seen, plan.checkpoint_every):
                _check_finite(plan, seen, {k: float(v) for k, v in losses.items()})
                save_checkpoint(plan.out / "checkpoints", seen, task.tensors(), plan.key)
    save_checkpoint(plan.out / "checkpoints", seen, task.tensors(), plan.key)
    if plan.sample_every:
        _record_sample(task, seen, recorders)
    return meter.last


def _resume(task: Task, plan: Plan) -> int:
    found = newest_checkpoint(plan.out / "checkpoints", plan.key)
    if found is None:
        return 0
    seen, tensors = found
    task.load(tensors)
    return seen


def _batches(task: Task, data: Dataset[Any], plan: Plan, seen: int) -> DataLoader[Any]:
    updates = max(0, math.ceil((plan.images - seen) / task.group))
    indices = range(seen, seen + updates * task.group)
    return DataLoader(
        Subset(data, indices), batch_size=task.group, num_workers=plan.workers if updates else 0
    )


def _crossed(before: int, after: int, every: int) -> bool:
    return before // every != after // every


def _record_sample(task: Task, seen: int, recorders: Sequence[Recorder]) -> None:
    pixels = task.sample()
    if pixels is not None:
        for recorder in recorders:
            recorder.picture(seen, "sample", pixels)


def _check_finite(plan: Plan, seen: int, figures: Mapping[str, float]) -> None:
    bad = [name for name, value in figures.items() if not math.isfinite(value)]
    if bad:
        raise TrainingError(
            f"{plan.name}: {', '.join(bad)} is not finite after {seen} images; the last checkpoint "
            f"under {plan.out / 'checkpoints'} is kept. Lower the learning rate or clip_norm"
        )


class _Meter:
    """Progress bar and throughput; a bar only on a terminal."""

    def __init__(self, plan: Plan, seen: int) -> None:
        console = Console(stderr=True)
        self.plan = plan
        self.started, self.first = time.monotonic(), seen
        self.logged = 0.0
        self.last: dict[str, float] = {}
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} images"),
            TextColumn("{task.fields[losses]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task(plan.name, total=plan.images, completed=seen, losses="")

    def __enter__(self) -> _Meter:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def step(self, seen: int, losses: Mapping[str, Tensor]) -> dict[str, float] | None:
        """Figures when it is time to log, else None."""
        now = time.monotonic()
        if now - self.logged < _LOG_EVERY_S:
            return None
        self.logged = now
        return self.figures(seen, losses)

    def figures(self, seen: int, losses: Mapping[str, Tensor]) -> dict[str, float]:
        """Losses, learning-rate share, throughput and peak memory."""
        elapsed = time.monotonic() - self.started
        values = {k: float(v) for k, v in losses.items()}
        text = " ".join(f"{k.removeprefix('loss_')} {v:.3f}" for k, v in values.items())
        self.bar.update(self.task, completed=seen, losses=text)
        self.last = {
            **values,
            "rate": self.plan.rate(seen),
            "images_per_s": (seen - self.first) / max(elapsed, 1e-9),
            "peak_memory_gib": _peak_memory_gib(),
        }
        return self.last


def _peak_memory_gib() -> float:
    """Peak of the GPU's allocator where one is used, else of the process."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**30
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
