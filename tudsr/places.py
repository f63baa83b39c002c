"""Where the project keeps what it makes."""

from __future__ import annotations

import os
from pathlib import Path

from tudsr.profile import PROJECT_ROOT


def outputs_dir() -> Path:
    """``outputs/`` in the project, or the folder that ``TUDSR_OUTPUTS`` names."""
    return Path(os.environ.get("TUDSR_OUTPUTS") or PROJECT_ROOT / "outputs")


def forms_dir() -> Path:
    """Where forms of models for a CPU are kept: ``outputs/cache/cpu``, or ``TUDSR_FORMS``."""
    return Path(os.environ.get("TUDSR_FORMS") or outputs_dir() / "cache" / "cpu")
