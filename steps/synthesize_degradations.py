"""Step 2: the fixed validation and test pairs, and a picture of what the degradations do."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Annotated

from zenml import log_metadata, step
from zenml.types import HTMLString

from steps.caching import ON_LIBRARY
from tudsr.data.expectations import Validation
from tudsr.profile import Profile


@step(cache_policy=ON_LIBRARY)
def synthesize_degradations(
    profile: Profile, validation: Validation, data_version: str
) -> tuple[Annotated[Path, "pairs"], Annotated[HTMLString, "degradation_preview"]]:
    """Write LR images and crop coordinates; training makes its own samples as it goes."""
    from tudsr.data.pairs import make_pairs
    from tudsr.data.preview import write_preview
    from tudsr.data.sets import photographs_of
    from tudsr.places import outputs_dir

    out = outputs_dir() / "run" / "pairs"
    listed = photographs_of(profile.data)
    photos = [photo for photo in listed if photo.file in set(validation.accepted)]
    made = make_pairs(photos, profile.pairs, profile.seed, out)
    preview = outputs_dir() / "run" / "degradations.png"
    write_preview(photos, preview, profile.seed)
    log_metadata({"pairs": len(made.pairs), "data": data_version})
    picture = base64.b64encode(preview.read_bytes()).decode()
    return out, HTMLString(f'<img alt="degradations" src="data:image/png;base64,{picture}">')
