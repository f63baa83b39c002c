"""All weights of a base under one optimizer: what both parts of pre-training share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from numpy.typing import NDArray
from torch import Tensor, nn

from tudsr.images.atomic import remove_dir
from tudsr.model.base import Base, save_base
from tudsr.model.codec import LappedCodec
from tudsr.profile import PretrainSettings
from tudsr.train.checkpoint import load_optimizer_tensors, optimizer_tensors
from tudsr.train.loop import Plan
from tudsr.train.ranks import rank, ranks, sum_gradients, wait_for_all


class BaseWeights:
    """A base's weights, their average and AdamW; the state that a checkpoint holds.

    Those of the UNet and, where the codec has one, of the learned decoder.
    """

    unit: int
    group: int

    def __init__(self, base: Base, settings: PretrainSettings, lr: float) -> None:
        self.base, self.settings, self.lr = base, settings, lr
        trained: list[nn.Module] = [base.unet]
        if isinstance(base.codec, LappedCodec):
            trained.append(base.codec)
        self.parameters = [p for m in trained for p in m.requires_grad_(True).parameters()]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=lr, weight_decay=settings.weight_decay
        )
        self.ema = EMAModel(self.parameters, decay=settings.ema, foreach=True)

    def descend(self, loss: Tensor, rate: float) -> None:
        """One clipped AdamW step at ``rate`` times the learning rate, on this rank's mean loss."""
        (loss / ranks()).backward()
        sum_gradients(self.parameters)
        torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.step(self.parameters)

    def finish(self, plan: Plan, out: Path, info: dict[str, Any]) -> None:
        """Write the averaged weights to ``out``, on rank 0, and remove the checkpoints."""
        if rank() == 0:
            self.ema.copy_to(self.parameters)
            save_base(self.base.cpu(), out, info, torch.bfloat16)
            remove_dir(plan.checkpoints)
        wait_for_all()

    def told(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """This rank's share of the figures, which add up over ranks."""
        return {name: loss.detach() / ranks() for name, loss in losses.items()}

    def tensors(self) -> dict[str, Tensor]:
        """Weights, their average and the optimizer's moments."""
        named = {f"weights.{i}": p for i, p in enumerate(self.parameters)}
        averaged = {f"ema.{i}": p for i, p in enumerate(self.ema.shadow_params)}
        step = {"ema_step": torch.tensor(self.ema.optimization_step)}
        return {**named, **averaged, **step, **optimizer_tensors("adamw", self.optimizer)}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over a checkpoint."""
        with torch.no_grad():
            for i, parameter in enumerate(self.parameters):
                parameter.copy_(tensors[f"weights.{i}"])
                self.ema.shadow_params[i].copy_(tensors[f"ema.{i}"])
        self.ema.optimization_step = int(tensors["ema_step"])
        load_optimizer_tensors("adamw", self.optimizer, tensors)

    def sample(self) -> NDArray | None:
        """No picture: pre-training's progress is its loss."""
        return None
