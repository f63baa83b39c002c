"""The machine's name, for the columns that hold absolute times."""

from __future__ import annotations

import platform
from pathlib import Path


def machine_name() -> str:
    """The processor's model, and whether it multiplies bf16 matrices by itself."""
    linux = platform.system() == "Linux"
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines() if linux else []
    model = next((line.split(":")[1].strip() for line in lines if "model name" in line), "")
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    units = {"amx_bf16": " with AMX", "avx512_bf16": " with AVX-512 BF16"}
    unit = next((words for flag, words in units.items() if flag in flags), "")
    return f"{model or platform.processor()}{unit}"
