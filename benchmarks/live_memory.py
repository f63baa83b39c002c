"""Peak bytes of live tensors, counted exactly: no allocator, no sampling, any device, meta too.

Every storage that an operation makes is counted when it appears and taken off when it dies.
Temporary buffers inside a kernel do not show, and on a real device an allocator rounds up.
"""

from __future__ import annotations

import resource
import weakref
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveMemory(TorchDispatchMode):
    """``with LiveMemory() as live: ...`` then ``live.peak_bytes``: what was made inside alone."""

    def __init__(self) -> None:
        super().__init__()
        self.now_bytes = self.peak_bytes = 0
        self._known: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._before: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        for tensor in _tensors((args, kwargs or {})):
            storage = tensor.untyped_storage()
            if storage not in self._known:
                self._before.add(storage)
        out = func(*args, **(kwargs or {}))
        for tensor in _tensors(out):
            self._count(tensor.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known or storage in self._before:
            return
        size = storage.nbytes()
        self._known[storage] = size
        self.now_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.now_bytes)
        weakref.finalize(storage, self._forget, size)

    def _forget(self, size: int) -> None:
        self.now_bytes -= size


class Peak:
    """What ``device_peak_mib`` found, once it has ended."""

    mib = 0.0


@contextmanager
def device_peak_mib(device: str) -> Generator[Peak]:
    """On a GPU the allocator's own peak inside, weights included; else the process's so far."""
    peak = Peak()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        yield peak
        torch.cuda.synchronize()
        peak.mib = torch.cuda.max_memory_allocated() / 2**20
    else:
        yield peak
        peak.mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


@contextmanager
def attention_without_scores() -> Generator[None]:
    """On meta tensors torch takes attention that keeps all scores; this counts flash attention's
    own: query, key, value, result and one number a row."""
    usual = F.scaled_dot_product_attention
    F.scaled_dot_product_attention = _flash
    try:
        yield
    finally:
        F.scaled_dot_product_attention = usual


def _flash(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
    return cast(Tensor, _Flash.apply(query, key, value))


class _Flash(torch.autograd.Function):
    """Shapes alone."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        result = query.new_empty(*query.shape[:-1], value.shape[-1])
        rows = query.new_empty(query.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(query, key, value, result, rows)
        return result

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.empty_like(t) for t in ctx.saved_tensors[:3])
