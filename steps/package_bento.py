"""Step 6: the bundle of what the gate let through, and a Bento around it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from zenml import get_step_context, log_metadata, step

from steps.caching import ON_PACKAGING
from tudsr.data.expectations import Validation
from tudsr.profile import Profile
from tudsr.release.gate import Verdict


@step(cache_policy=ON_PACKAGING)
def package_bento(
    profile: Profile,
    validation: Validation,
    verdict: Verdict,
    evaluation: Path,
    stage1: Path,
    stage2: Path,
    data_version: str,
    base_version: str,
) -> tuple[Annotated[Path, "bundle"], Annotated[str, "bento"]]:
    """Write the bundle and build the Bento.

    Raises:
        GateClosedError: the gate is closed; the run fails here and keeps its record.
    """
    from serving.build import build_bento
    from tudsr.places import outputs_dir
    from tudsr.release.assemble import assemble
    from tudsr.release.summary import RunSummary, write_summary

    run = get_step_context().pipeline_run.name
    write_summary(RunSummary(run=run, model=profile.registry.model_name, verdict=verdict))
    verdict.require_open()
    out = outputs_dir() / "run" / "bundle"
    adapters = {1: stage1 / "adapter.safetensors", 2: stage2 / "adapter.safetensors"}
    manifest = assemble(
        out, profile, adapters, verdict, validation.accepted, data_version, base_version
    )
    bento = build_bento(out, manifest.bundle_hash)
    log_metadata({"bundle_hash": manifest.bundle_hash, "bento": bento})
    return out, bento
