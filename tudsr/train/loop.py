"""The training loop: one for the base and both stages, read from top to bottom.

Images seen are the clock. Every random draw derives from the seed and images' numbers, so a killed
run that goes on from its newest checkpoint is the same run, and several ranks draw what one would.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from safetensors.torch import load
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from tudsr.errors import Interrupted, SettingsError, TrainingError
from tudsr.images.atomic import remove_leftovers
from tudsr.machine import keep_freed_memory
from tudsr.train.checkpoint import (
    Checkpoint,
    Inputs,
    newest_checkpoint,
    other_trainings,
    save_checkpoint,
)
from tudsr.train.meter import FiniteCheck, Meter
from tudsr.train.ranks import (
    any_rank,
    first_of_share,
    from_rank_0,
    rank,
    ranks,
    sum_values,
    wait_for_all,
)
from tudsr.train.record import FileRecorder, Recorder, read_metrics
from tudsr.train.stopping import StopSignals, ignore_stop_signals
from tudsr.train.wait import DataWait
from tudsr.train.workers import telling_workers_errors, until_closed


class Task(Protocol):
    """What one kind of training computes; the loop knows nothing more."""

    group: int
    """Images of one call of ``update``, on all ranks together."""
    unit: int
    """Images that are computed at once: ranks share a group in multiples of it."""

    def update(self, batch: Any, images_seen: int, rate: float) -> dict[str, Tensor]:
        """Train on this rank's share of a group at ``rate`` times the learning rate.

        Returns this rank's part of the mean losses: over all ranks they add up to the mean.
        """
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
    inputs: Inputs
    warmup: int = 0
    cooldown: float = 0.0
    checkpoint_every: int = 500
    log_every: int = 50
    sample_every: int | None = None
    workers: int = 1
    resume: bool = False
    recorders: Sequence[Recorder] = field(default=())

    @property
    def checkpoints(self) -> Path:
        """Where they go."""
        return self.out / "checkpoints"

    def rate(self, images_seen: int) -> float:
        """Share of the full learning rate: rising, 1, then falling linearly to a twentieth."""
        left = (self.images - images_seen) / max(1.0, self.images * self.cooldown)
        risen = (images_seen + 1) / (self.warmup + 1)
        return min(risen, max(0.05, min(1.0, left)))


def train(task: Task, data: Dataset[Any], plan: Plan) -> dict[str, float]:
    """Train ``task`` on ``data`` and return the last figures.

    Goes on from the newest complete checkpoint under ``plan.out``; figures go to
    ``plan.out/metrics.jsonl`` and to ``plan.recorders``, from rank 0 alone. Item ``i`` of ``data``
    must be a pure function of ``i``, and there must be ``plan.images`` of them.

    Raises:
        TrainingError: a loss that is not finite (the last checkpoint stays), a checkpoint of other
            settings, another rank that died, or a data worker that was killed.
        DataError: a training sample that could not be made, in whichever process.
        SettingsError: a group that cannot be shared by the ranks.
        Interrupted: SIGTERM or SIGINT came; the step was finished and saved.
    """
    keep_freed_memory()
    _check_shares(task, plan)
    seen = _resume(task, plan)
    recorders = _recorders(plan, seen)
    losses_check = FiniteCheck(plan.name, str(plan.checkpoints))
    batches = until_closed(_batches(task, data, plan, seen))
    with (
        telling_workers_errors(plan.name),
        StopSignals() as signals,
        Meter(plan.name, plan.images, seen) as meter,
        closing(batches),
    ):
        waiting = DataWait(batches, getattr(data, "figures", dict))
        for batch in waiting:
            losses = task.update(batch, seen, plan.rate(seen))
            before, seen = seen, seen + task.group
            losses_check.note(seen, losses)
            meter.advance(seen)
            done = seen >= plan.images
            stop = any_rank(signals.received) and not done
            if done or _crossed(before, seen, plan.log_every):
                losses_check.check()
                figures = sum_values({k: float(v) for k, v in losses.items()})
                told = meter.figures(seen, figures) | waiting.figures()
                _log(recorders, seen, {"rate": plan.rate(seen), **told})
            if plan.sample_every and (done or _crossed(before, seen, plan.sample_every)):
                _record_sample(task, seen, recorders)
            if done or stop or _crossed(before, seen, plan.checkpoint_every):
                losses_check.check()
                _save(task, plan, seen)
            if stop:
                wait_for_all()
                raise Interrupted(_farewell(plan, seen))
    wait_for_all()
    return _last_figures(plan)


def _check_shares(task: Task, plan: Plan) -> None:
    shared = task.unit * ranks()
    if task.group % shared:
        units = task.group // task.unit
        fitting = [n for n in range(1, units + 1) if units % n == 0]
        raise SettingsError(
            f"{plan.name}: an optimizer step is {units} micro-batches of {task.unit} images, which "
            f"{ranks()} ranks cannot share. Start {' or '.join(map(str, fitting))}, or change "
            "accumulate"
        )


def _resume(task: Task, plan: Plan) -> int:
    """Images seen by the newest checkpoint, which ``task`` has taken over; 0 without one."""
    found = _newest(plan) if rank() == 0 else None
    if ranks() == 1:
        tensors = found.tensors() if found else None
    else:
        content = from_rank_0(found.weights.read_bytes() if found else None)
        tensors = load(content) if content is not None else None
    if tensors is None:
        return 0
    task.load(tensors)
    position = from_rank_0(str(found.images_seen).encode() if found else b"")
    return int(position or b"0")


def _newest(plan: Plan) -> Checkpoint | None:
    """This run's newest checkpoint; without one, a word on unfinished runs of other settings."""
    remove_leftovers(plan.out.parent, plan.out.name)
    remove_leftovers(plan.checkpoints)
    remove_leftovers(plan.out / "samples")
    found = newest_checkpoint(plan.checkpoints, plan.inputs)
    if found is None:
        others = other_trainings(plan.out.parent, plan.inputs)
        if plan.resume:
            said = "; ".join(others) or f"there is no checkpoint under {plan.out.parent}"
            raise TrainingError(f"{plan.name} cannot go on: {said}")
        for other in others:
            note = f"note: {other}. {plan.name} starts anew beside it"
            Console(stderr=True).print(note, markup=False, highlight=False, soft_wrap=True)
    return found


def _recorders(plan: Plan, seen: int) -> list[Recorder]:
    return [FileRecorder(plan.out, seen), *plan.recorders] if rank() == 0 else []


def _batches(task: Task, data: Dataset[Any], plan: Plan, seen: int) -> DataLoader[Any]:
    """This rank's share of each group; item numbers are images seen, whatever rank takes them."""
    updates = max(0, math.ceil((plan.images - seen) / task.group))
    share = task.group // ranks()
    first = first_of_share(seen, task.group)
    indices = [first + u * task.group + i for u in range(updates) for i in range(share)]
    return DataLoader(
        Subset(data, indices),
        batch_size=share,
        num_workers=plan.workers if updates else 0,
        worker_init_fn=ignore_stop_signals,
        generator=torch.Generator(),  # else it draws from the global one
    )


def _crossed(before: int, after: int, every: int) -> bool:
    return before // every != after // every


def _log(recorders: Sequence[Recorder], seen: int, figures: Mapping[str, float]) -> None:
    for recorder in recorders:
        recorder.log(seen, figures)


def _record_sample(task: Task, seen: int, recorders: Sequence[Recorder]) -> None:
    pixels = task.sample() if recorders else None
    if pixels is not None:
        for recorder in recorders:
            recorder.picture(seen, "sample", pixels)


def _save(task: Task, plan: Plan, seen: int) -> None:
    if rank() == 0:
        save_checkpoint(plan.checkpoints, seen, task.tensors(), plan.inputs)


def _farewell(plan: Plan, seen: int) -> str:
    return (
        f"{plan.name} was interrupted after {seen} of {plan.images} images and has saved them "
        f"under {plan.checkpoints}; start it again to go on"
    )


def _last_figures(plan: Plan) -> dict[str, float]:
    rows = read_metrics(plan.out / "metrics.jsonl") if rank() == 0 else []
    return {k: v for k, v in rows[-1].items() if k != "images_seen"} if rows else {}
