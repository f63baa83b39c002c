"""Step 1: a facts table of the photographs, checked by a Great Expectations suite."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from zenml import log_metadata, step
from zenml.types import HTMLString

from steps.caching import ON_LIBRARY
from tudsr.data.expectations import Validation
from tudsr.profile import DataSettings


@step(cache_policy=ON_LIBRARY)
def validate_data(
    settings: DataSettings, data_version: str
) -> tuple[
    Annotated[Validation, "validation"],
    Annotated[Path, "validation_files"],
    Annotated[HTMLString, "data_docs"],
]:
    """Set unusable photographs aside, with reasons; fail when too few are left."""
    from tudsr.data.expectations import validate
    from tudsr.data.facts import gather_facts
    from tudsr.data.sets import photographs_of, training_sample
    from tudsr.places import outputs_dir

    out = outputs_dir() / "run" / "validation"
    facts = gather_facts(photographs_of(settings), training_sample(settings))
    validation = validate(facts, settings, out)
    log_metadata({"data_version": data_version, "set_aside": len(validation.set_aside)})
    return validation, out, HTMLString((out / "docs" / "index.html").read_text("utf-8"))
