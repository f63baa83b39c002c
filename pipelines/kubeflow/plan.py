"""What a run would ask of the cluster and may cost: estimates, from stated assumptions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.kubeflow.demand import Demand
from pipelines.kubeflow.specification import Task
from tudsr.profile import Profile, StepPlace


@dataclass(frozen=True)
class Estimate:
    """One step's estimate.

    Attributes:
        images: images it trains on; 0 for steps that do not train.
        hours: ``overhead_min`` plus images over the assumed throughput; None without one.
        gpu_hours: hours times GPUs.
        cost: hours times the price of the share of a node that the step asks for.
    """

    demand: Demand
    images: int
    hours: float | None

    @property
    def gpu_hours(self) -> float | None:
        """Hours times GPUs."""
        return None if self.hours is None else self.hours * self.demand.gpus

    @property
    def cost(self) -> float | None:
        """In the pools' currency: the largest share of a node's GPUs, cores or memory is paid."""
        if self.hours is None:
            return None
        asked, pool = self.demand, self.demand.pool
        share = max(asked.cpus / pool.cpus, asked.memory_gib / pool.memory_gib)
        if pool.gpus:
            share = max(share, asked.gpus / pool.gpus)
        return self.hours * share * pool.price_per_hour


def estimates(tasks: Sequence[Task], profile: Profile) -> list[Estimate]:
    """One a task, for one attempt that is not interrupted."""
    counts = _images(profile)
    made: list[Estimate] = []
    for task in tasks:
        place = getattr(profile.cluster, task.name)
        images = counts.get(task.name, 0)
        made.append(Estimate(task.demand, images, _hours(place, images, task.demand.gpus)))
    return made


def _images(profile: Profile) -> dict[str, int]:
    finish = profile.pretrain.finish
    return {
        "train_stage1": profile.stage1.images,
        "train_stage2": profile.stage2.images,
        "pretrain_base": profile.pretrain.images + finish.images,
    }


def _hours(place: StepPlace, images: int, gpus: int) -> float | None:
    if images and place.images_per_s is None:
        return None
    seconds = images / (place.images_per_s * max(1, gpus)) if images and place.images_per_s else 0.0
    return place.overhead_min / 60 + seconds / 3600
