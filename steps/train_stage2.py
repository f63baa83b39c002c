"""Step 4: adapter 2, trained at N·R chunk by chunk (the paper's algorithm 2)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from zenml import log_metadata, step

from steps.caching import ON_LIBRARY
from steps.context import recorder
from tudsr.data.expectations import Validation
from tudsr.profile import Profile


@step(cache_policy=ON_LIBRARY)
def train_stage2(
    profile: Profile,
    validation: Validation,
    stage1: Path,
    data_version: str,
    base_version: str,
    trunks: str,
) -> Annotated[Path, "stage2"]:
    """Train after the frozen stage 1; the folder holds adapter, figures and samples."""
    from tudsr.places import outputs_dir
    from tudsr.train.stages import train_stage2 as train

    photos = validation.paths(Path(profile.data.root), "train")
    out = outputs_dir() / "train" / "adapter2"
    record = [recorder("stage2", profile.registry)]
    work = outputs_dir() / "train" / "stage2"
    figures = train(profile, photos, stage1 / "adapter.safetensors", out, work, record)
    log_metadata({"data": data_version, "base": base_version, "trunks": trunks, **figures})
    return out
