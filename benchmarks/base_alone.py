"""The base without what the stages learned: adapters of zeros, which leave it as it is."""

from __future__ import annotations

from pathlib import Path

from tudsr.model.adapters import add_adapter, save_adapter
from tudsr.model.base import load_base
from tudsr.profile import Profile


def zero_adapters(profile: Profile, folder: Path) -> dict[int, Path]:
    """Write both stages' untrained adapters for a profile's base to ``folder``, by stage."""
    base = load_base(profile.base)
    adapters = {stage: folder / f"{stage}.safetensors" for stage in (1, 2)}
    for stage, settings in ((1, profile.stage1), (2, profile.stage2)):
        name = f"stage{stage}"
        add_adapter(base.unet, name, settings.lora, profile.seed)
        save_adapter(adapters[stage], base.unet, name, settings.lora, settings.timestep)
    return adapters
