"""Several processes that train one model: what they exchange, and only that.

Each rank computes its share of an optimizer step's pictures; gradients are added up before the
step, so all hold the same weights. Alone, every function here does nothing. Which ranks there are
comes from the environment (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT), as torchrun
sets it, and Kubeflow's Trainer through it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

import torch
import torch.distributed as dist

from tudsr.errors import SettingsError, TrainingError
from tudsr.profile import RuntimeSettings


def expected_ranks() -> int:
    """How many processes the environment speaks of; 1 where it does not."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def ranks() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This process's number; 0 alone writes files and speaks."""
    return dist.get_rank() if dist.is_initialized() else 0


def first_of_share(images_seen: int, group: int) -> int:
    """Number of the first image that this rank has of the ``group`` after ``images_seen``."""
    return images_seen + rank() * (group // ranks())


def join(settings: RuntimeSettings, device: torch.device) -> None:
    """Meet the other ranks, if the environment speaks of any.

    Flags and checkpoints go through gloo on the CPU, gradients through NCCL where there are GPUs.

    Raises:
        SettingsError: a device that cannot train with others.
        TrainingError: they did not all come in time, or their GPUs cannot talk to each other.
    """
    if expected_ranks() == 1 or dist.is_initialized():
        return
    if device.type == "mps":
        raise SettingsError("device 'mps' cannot train in several processes: use cpu or cuda")
    from accelerate import PartialState

    on_gpu = device.type == "cuda"
    options = {"backend": "cpu:gloo,cuda:nccl"} if on_gpu else {}
    wait = timedelta(seconds=settings.ranks_timeout_s)
    try:
        PartialState(cpu=not on_gpu, timeout=wait, **options)
    except NotImplementedError as error:  # a RuntimeError too; accelerate: RTX 40xx, old driver
        raise TrainingError(
            f"the {expected_ranks()} ranks cannot exchange data between their GPUs directly "
            f"({_first(error)}). Set NCCL_P2P_DISABLE=1 NCCL_IB_DISABLE=1 in their environment, or "
            "renew the driver"
        ) from None
    except (RuntimeError, ValueError) as error:
        raise TrainingError(
            f"the {expected_ranks()} ranks did not meet within {settings.ranks_timeout_s:g} s at "
            f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')} ({_first(error)})"
        ) from None


def sum_gradients(parameters: Sequence[torch.nn.Parameter]) -> None:
    """Replace each gradient by its sum over all ranks; which ones there are must agree."""
    if ranks() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return
    flat = torch.cat([g.flatten() for g in gradients])
    _exchange(lambda: dist.all_reduce(flat))
    sizes = [g.numel() for g in gradients]
    for gradient, summed in zip(gradients, flat.split(sizes), strict=True):
        gradient.copy_(summed.view_as(gradient))


def sum_values(values: Mapping[str, float]) -> dict[str, float]:
    """Add up figures of the same names over all ranks."""
    return dict(zip(values, _reduced(list(values.values()), dist.ReduceOp.SUM), strict=True))


def maximum(values: Sequence[float]) -> list[float]:
    """The largest of each value over all ranks."""
    return _reduced(values, dist.ReduceOp.MAX)


def any_rank(flag: bool) -> bool:
    """Whether the flag is set on some rank; 8 bytes through the CPU, no wait for a GPU."""
    return bool(maximum([float(flag)])[0])


def from_rank_0(content: bytes | None) -> bytes | None:
    """Rank 0's bytes, or its None, on every rank; what the others give is not looked at."""
    if ranks() == 1:
        return content
    mine = content if rank() == 0 else None
    size = torch.tensor([-1 if mine is None else len(mine)])
    _exchange(lambda: dist.broadcast(size, 0))
    if int(size) < 0:
        return None
    buffer = torch.empty(int(size), dtype=torch.uint8)
    if mine is not None:
        buffer = torch.frombuffer(bytearray(mine), dtype=torch.uint8)
    _exchange(lambda: dist.broadcast(buffer, 0))
    return buffer.numpy().tobytes()


def wait_for_all() -> None:
    """Return when every rank has come here."""
    maximum([0.0])


def _reduced(values: Sequence[float], how: dist.ReduceOp.RedOpType) -> list[float]:
    if ranks() == 1 or not values:
        return list(values)
    reduced = torch.tensor(list(values), dtype=torch.float64)
    _exchange(lambda: dist.all_reduce(reduced, how))
    return reduced.tolist()


def _exchange(exchange: Callable[[], object]) -> None:
    try:
        exchange()
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or "DataLoader worker" in str(error):
            raise  # torch tells of a lost data worker wherever its process is
        raise TrainingError(
            f"rank {rank()} of {ranks()} stops: another rank has died or hangs ({_first(error)}). "
            "The newest checkpoint is kept; start all ranks again to go on from it"
        ) from None


def _first(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200]
