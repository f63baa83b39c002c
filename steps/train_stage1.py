"""Step 3: adapter 1, trained at R (the paper's algorithm 1)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from zenml import log_metadata, step

from steps.caching import ON_LIBRARY
from steps.context import recorder
from tudsr.data.expectations import Validation
from tudsr.profile import Profile


@step(cache_policy=ON_LIBRARY)
def train_stage1(
    profile: Profile, validation: Validation, data_version: str, base_version: str, trunks: str
) -> Annotated[Path, "stage1"]:
    """Train on the accepted photographs; the folder holds adapter, figures and samples."""
    from tudsr.places import outputs_dir
    from tudsr.train.stages import train_stage1 as train

    photos = validation.paths(Path(profile.data.root), "train")
    out = outputs_dir() / "train" / "adapter1"
    record = [recorder("stage1", profile.registry)]
    figures = train(profile, photos, out, outputs_dir() / "train" / "stage1", record)
    log_metadata({"data": data_version, "base": base_version, "trunks": trunks, **figures})
    return out
