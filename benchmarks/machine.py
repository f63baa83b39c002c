"""What a figure belongs to: the machine, for absolute times, and the model."""

from __future__ import annotations

import platform
from pathlib import Path


def machine_name(device: str = "cpu") -> str:
    """The processor's model and its bf16 unit, or with ``device`` cuda the GPU's and torch's."""
    if device == "cuda":
        import torch

        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    linux = platform.system() == "Linux"
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines() if linux else []
    model = next((line.split(":")[1].strip() for line in lines if "model name" in line), "")
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    units = {"amx_bf16": " with AMX", "avx512_bf16": " with AVX-512 BF16"}
    unit = next((words for flag, words in units.items() if flag in flags), "")
    return f"{model or platform.processor()}{unit}"


def bundle_hash(model: str | None) -> str:
    """Of a bundle's folder, a version or an alias; None is the champion."""
    from tudsr.release.bundle import load_bundle
    from tudsr.release.locate import locate_model

    return load_bundle(locate_model(model), verify=False).bundle_hash
