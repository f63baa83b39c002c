"""Whether attention ever holds its scores: a (tokens, tokens) matrix would be.

At 512 pixels the autoencoder's one head of 512 channels and the UNet's first blocks see 4096
tokens, whose scores take 64 MiB a head in float32. torch's fused kernels never hold them; where
none fits (a head too wide, a type not supported), torch falls back to one that does, silently.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tudsr.model.base import Base
from tudsr.profile import RuntimeSettings
from tudsr.train.device import autocast


class ScoreWatch(TorchDispatchMode):
    """While entered, notes each operation that makes a tensor whose last two sides are tokens.

    Works on every device, and sees backward passes run inside it.

    Attributes:
        tokens: the counts that are watched for.
        seen: ``operation shape`` of each tensor found.
    """

    def __init__(self, tokens: Sequence[int]) -> None:
        super().__init__()
        self.tokens = frozenset(tokens)
        self.seen: list[str] = []

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run the operation and look at what it made."""
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.ndim >= 2:
                rows, columns = tensor.shape[-2:]
                if rows == columns and rows in self.tokens:
                    self.seen.append(f"{func} {tuple(tensor.shape)}")
        return result


@dataclass(frozen=True)
class StepCheck:
    """What one training-like step of a base showed.

    Attributes:
        seconds: forward and backward.
        finite: whether the picture and the gradient are.
        scores: operations that held attention's scores; empty is right.
    """

    seconds: float
    finite: bool
    scores: tuple[str, ...]


def check_step(base: Base, px: int, settings: RuntimeSettings) -> StepCheck:
    """One step of a base on noise of ``px`` x ``px`` with a backward pass down to the pixels.

    ``px`` is a multiple of ``size_multiple``, at least 128: below, scores are told from nothing.
    """
    device = base.prompt.device
    rng = torch.Generator().manual_seed(0)
    images = torch.rand(1, 3, px, px, generator=rng).to(device).requires_grad_()
    side = px // base.codec.factor
    levels = len(base.unet.config["block_out_channels"])
    tokens = [(side >> level) ** 2 for level in range(levels)]
    # Up to ``px`` tokens a square tensor may as well be a feature map, or a weight.
    watch = ScoreWatch([count for count in tokens if count > px])
    start = time.perf_counter()
    with watch, autocast(device, settings):
        restored = base.restore(images, 200).float()
        (gradient,) = torch.autograd.grad(restored.square().mean(), images)
    finite = bool(restored.isfinite().all() and gradient.isfinite().all())
    return StepCheck(time.perf_counter() - start, finite, tuple(watch.seen))
