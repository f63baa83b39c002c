"""Which device and precision a run uses."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext

import torch

from tudsr.errors import SettingsError
from tudsr.machine import usable_cores
from tudsr.profile import RuntimeSettings

_MAX_WORKERS = 8


def pick_device(settings: RuntimeSettings) -> torch.device:
    """The device asked for, or the best there is.

    Raises:
        SettingsError: a device that this machine does not have, or too few for its ranks.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available()}
    available["mps"] = torch.backends.mps.is_available()
    if settings.device == "auto":
        return _own(next(d for d in ("cuda", "mps", "cpu") if available[d]))
    if not available[settings.device]:
        have = ", ".join(d for d, there in available.items() if there)
        raise SettingsError(f"device {settings.device!r} is not on this machine; it has {have}")
    return _own(settings.device)


def _own(kind: str) -> torch.device:
    """This rank's device: ranks of one machine have a GPU each."""
    local_rank = os.environ.get("LOCAL_RANK")
    if kind != "cuda" or local_rank is None:
        return torch.device(kind)
    if int(local_rank) >= torch.cuda.device_count():
        raise SettingsError(
            f"rank {local_rank} of this machine has no GPU: there are "
            f"{torch.cuda.device_count()}. Start as many ranks, or set runtime.device to cpu"
        )
    return torch.device("cuda", int(local_rank))


def autocast(device: torch.device, settings: RuntimeSettings) -> AbstractContextManager[object]:
    """bf16 autocast where it pays or is asked for, else nothing."""
    if in_half(device, settings):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def in_half(device: torch.device, settings: RuntimeSettings) -> bool:
    """Whether networks compute in bf16: where it pays, unless a precision is asked for."""
    if settings.precision == "auto":
        return device.type == "cuda" or _cpu_has_bf16(device)
    return settings.precision == "bf16"


def running_on(settings: RuntimeSettings) -> dict[str, str]:
    """``device`` and ``precision``: what `pick_device` and `in_half` come to here."""
    device = pick_device(settings)
    return {"device": device.type, "precision": "bf16" if in_half(device, settings) else "fp32"}


def data_workers(settings: RuntimeSettings, device: torch.device) -> int:
    """How many processes make training samples; which samples does not depend on it.

    Unless set: on a CPU one, since training takes the other cores; beside a GPU one less than the
    cores that this process's share of the machine has, up to 8.
    """
    if settings.data_workers is not None:
        return settings.data_workers
    if device.type == "cpu":
        return 1
    own = usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, min(_MAX_WORKERS, own - 1))


def _cpu_has_bf16(device: torch.device) -> bool:
    """Whether a CPU multiplies bf16 by itself, in matrix units (AMX) or vectors (AVX-512 BF16).

    Training is then 3.3 and 1.6 times as fast as in fp32, and slower on others (docs/log.md).
    """
    if device.type != "cpu":
        return False
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()  # pyright: ignore
