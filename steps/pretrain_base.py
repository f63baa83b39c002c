"""The small base, pre-trained on the accepted photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from zenml import log_metadata, step

from steps.caching import ON_LIBRARY
from steps.context import recorder
from tudsr.data.expectations import Validation
from tudsr.profile import Profile


@step(cache_policy=ON_LIBRARY)
def pretrain_base(
    profile: Profile, validation: Validation, data_version: str, start_version: str, trunks: str
) -> Annotated[Path, "base"]:
    """Train a denoiser on epsilon and return it as a folder in diffusers' layout."""
    from tudsr.places import outputs_dir
    from tudsr.train.pretrain import pretrain_base as pretrain

    photos = validation.paths(Path(profile.data.root), "train")
    record = recorder("base", profile.registry)
    out = outputs_dir() / "train" / "base"
    pretrain(profile, photos, out, outputs_dir() / "train" / "pretraining", [record])
    record.finish()  # the pipeline's last step
    made_of = {"data": data_version, "start": start_version, "trunks": trunks}
    log_metadata({"images": profile.pretrain.images, **made_of})
    return out
