"""The last part of a base's pre-training: the work of both stages, judged as people see it.

Pixel differences alone leave a base soft, and minutes of adapter training cannot make up for it
(docs/log.md). So the base goes on to learn, without a critic, from feature distances, on stage 1's
inputs and on stage 2's: pictures that it has restored itself, enlarged.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from tudsr.model.base import Base, load_base_folder
from tudsr.model.losses import (
    Dists,
    feature_distance,
    lattice_error,
    staged_trunk,
)
from tudsr.model.mesh import MESH_PERIODS, mesh_excess
from tudsr.model.version import weights_at
from tudsr.profile import Profile
from tudsr.train.base_weights import BaseWeights
from tudsr.train.checkpoint import CADENCE, training_inputs
from tudsr.train.chunks import chunk, enlarge
from tudsr.train.device import autocast, data_workers, in_half, pick_device, running_on
from tudsr.train.loop import Plan, train
from tudsr.train.pairs import TrainingPairs
from tudsr.train.ranks import join
from tudsr.train.record import Recorder


def finish_base(
    profile: Profile,
    photos: Sequence[Path],
    start: Path,
    out: Path,
    work: Path,
    recorders: Sequence[Recorder] = (),
) -> Path:
    """Go on training the base in folder ``start`` and write the result to ``out``.

    As ``pretrain_base`` else: a killed run goes on from its checkpoints under ``work``.
    """
    settings = profile.pretrain.finish
    stages = {"timestep", "scales", "n", "loss"}
    decisive = profile.model_dump(
        include={
            "pretrain": True,
            "data": {"crops"},
            "degradation": True,
            "upscale": {"interpolation"},
            "seed": True,
            "base": {"arch", "r_px"},
            "stage1": stages,
            "stage2": stages,
        },
        exclude={"pretrain": {**dict.fromkeys(CADENCE, True), "finish": CADENCE}},
    )
    files = [*photos, start / "base.json", *weights_at(profile.stage1.loss.trunk_path)]
    inputs = training_inputs(decisive, files, running_on(profile.runtime))
    base = load_base_folder(start).to(pick_device(profile.runtime))
    join(profile.runtime, base.prompt.device)
    task = FinishingTask(base, profile)
    plan = Plan(
        name="base, finishing",
        images=settings.images,
        out=work / inputs.key[:12],
        inputs=inputs,
        warmup=settings.warmup,
        cooldown=settings.cooldown,
        checkpoint_every=settings.checkpoint_every,
        log_every=profile.pretrain.log_every,
        workers=data_workers(profile.runtime, task.device),
        recorders=recorders,
    )
    figures = train(task, EitherStage(profile, photos), plan)
    done = {"key": inputs.key, "settings": settings.model_dump(), "figures": figures}
    task.finish(plan, out, {**base.info, "finishing": done})
    return out


class EitherStage(Dataset[dict[str, Tensor]]):
    """Stage 1's or stage 2's training pairs; the same kind throughout a batch."""

    def __init__(self, profile: Profile, photos: Sequence[Path]) -> None:
        r_px, settings = profile.base.r_px, profile.pretrain.finish
        self.seed, self.batch, self.share = profile.seed, settings.batch, settings.stage2_share
        self.first, self.second = (
            TrainingPairs(photos, profile, r_px * s.n, s.scales, profile.seed + i)
            for i, s in ((2, profile.stage1), (3, profile.stage2))
        )

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.seed, 4, index // self.batch))
        return (self.second if rng.random() < self.share else self.first)[index]

    def figures(self) -> dict[str, float]:
        """Those of stage 2's pairs, whose crops are the larger ones and skip the most."""
        return self.second.figures()


class FinishingTask(BaseWeights):
    """Pixels, features, DISTS and the lattice of one stage's result, at that stage's t."""

    def __init__(self, base: Base, profile: Profile) -> None:
        settings = profile.pretrain.finish
        super().__init__(base, profile.pretrain, lr=settings.lr)
        self.profile, self.weights = profile, settings
        self.unit, self.group = 1, settings.batch
        self.device = base.prompt.device
        loss = profile.stage1.loss
        half = in_half(self.device, profile.runtime)
        self.trunk = staged_trunk(loss.trunk, loss.trunk_path, self.device, half)
        self.dists = Dists(self.trunk.widths).to(self.device)

    def update(self, batch: dict[str, Tensor], images_seen: int, rate: float) -> dict[str, Tensor]:
        """One AdamW step on ``lr`` (B, 3, R, R) and ``hr``, of side R or N·R, in [0, 1]."""
        lr, hr = batch["lr"].to(self.device), batch["hr"].to(self.device)
        t = self.profile.stage1.timestep
        rng = np.random.default_rng((self.profile.seed, 5, images_seen))
        if hr.shape[-1] > lr.shape[-1]:
            lr, hr = self._one_chunk(lr, hr, rng)
            t = self.profile.stage2.timestep
        with autocast(self.device, self.profile.runtime):
            restored = self.base.restore(lr, t)
        total, losses = self._losses(restored.float(), hr, rng)
        self.descend(total, rate)
        return self.told({**losses, "loss_total": total})

    @torch.no_grad()
    def _one_chunk(self, lr: Tensor, hr: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Stage 2's input as this base makes it, and its truth, on one of the N² chunks."""
        with autocast(self.device, self.profile.runtime):
            middle = self.base.restore(lr, self.profile.stage1.timestep).float().clamp(0, 1)
        n, r_px = self.profile.stage2.n, lr.shape[-1]
        which = int(rng.integers(n**2))
        method = self.profile.upscale.interpolation.before_stage2
        return chunk(enlarge(middle, n, method), r_px)[which], chunk(hr, r_px)[which]

    def _losses(
        self, restored: Tensor, hr: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        factor = self.base.codec.factor
        terms = {
            "l1": F.l1_loss(restored, hr),
            "lattice": lattice_error(restored, hr, factor),
            **self._perceptual(*self._window(restored, hr, rng)),
        }
        if self.weights.mesh:
            terms["mesh"] = mesh_excess(restored, hr, MESH_PERIODS * factor)
        total = torch.stack([getattr(self.weights, n) * term for n, term in terms.items()]).sum()
        return total, {f"loss_{name}": term.detach() for name, term in terms.items()}

    def _perceptual(self, restored: Tensor, hr: Tensor) -> dict[str, Tensor]:
        with autocast(self.device, self.profile.runtime):
            features, hr_features = self.trunk(restored), self.trunk(hr)
        dists = self.dists(restored, hr, features, hr_features).mean()
        return {"features": feature_distance(features, hr_features), "dists": dists}

    def _window(
        self, restored: Tensor, hr: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Where features and DISTS are taken."""
        side = self.weights.window_px
        if side is None or side >= hr.shape[-1]:
            return restored, hr
        top, left = rng.integers(hr.shape[-1] - side + 1, size=2)
        where = (..., slice(top, top + side), slice(left, left + side))
        return restored[where], hr[where]
