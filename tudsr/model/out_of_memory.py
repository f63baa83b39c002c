"""What allocators say when there is no more memory, under one name."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch

# Of those that have no class of their own: the CPU's, MPS, cuBLAS and cuDNN.
_SIGNS = ("can't allocate memory", "out of memory", "STATUS_ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocator failed, on a GPU or (torch has no class for it) on the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


@contextmanager
def as_memory_error() -> Generator[None]:
    """Around work with torch: its ways to run out of memory become Python's ``MemoryError``."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryError(str(error).splitlines()[0]) from error
