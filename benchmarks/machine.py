"""The machine's name, for the columns that hold absolute times."""

from __future__ import annotations

import platform
from pathlib import Path


def machine_name() -> str:
    """The processor's model, and whether it multiplies bf16 matrices by itself."""
    linux = platform.system() == "Linux"
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines() if linux else []
    model = next((line.split(":")[1].strip() for line in lines if "model name" in line), "")
    amx = " with AMX" if any("amx_bf16" in line for line in lines) else ""
    return f"{model or platform.processor()}{amx}"
