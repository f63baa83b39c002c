"""Where the project keeps what it makes."""

from __future__ import annotations

import os
from pathlib import Path

from tudsr.profile import PROJECT_ROOT


def outputs_dir() -> Path:
    """``outputs/`` in the project, or the folder that ``TUDSR_OUTPUTS`` names."""
    return Path(os.environ.get("TUDSR_OUTPUTS") or PROJECT_ROOT / "outputs")
