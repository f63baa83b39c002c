"""The pipelines, found by ``zenml pipeline run pipelines.NAME``.

They are imported when asked for: the commands in this package must not wait for ZenML.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_MODULES = {"tudsr_base": "pipelines.base", "tudsr_full": "pipelines.full"}

__all__ = ["tudsr_base", "tudsr_full"]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
