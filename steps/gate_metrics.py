"""Step 5: the metric gate, against bicubic's floors and the current champion."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from zenml import get_step_context, log_metadata, step
from zenml.types import HTMLString

from steps.caching import ON_LIBRARY
from steps.context import mlflow_run
from tudsr.profile import Profile
from tudsr.release.gate import Verdict


@step(cache_policy=ON_LIBRARY)
def gate_metrics(
    profile: Profile,
    pairs: Path,
    stage1: Path,
    stage2: Path,
    data_version: str,
    base_version: str,
    trunks: str,
    champion_version: str | None,
    judged_by_the_loss: bool,
) -> tuple[
    Annotated[Verdict, "verdict"], Annotated[Path, "evaluation"], Annotated[HTMLString, "report"]
]:
    """Score the model, decide, and write the report; a closed gate is a result, not a failure."""
    from tudsr.evaluate.judge import examine
    from tudsr.evaluate.record import write_evaluation
    from tudsr.places import outputs_dir
    from tudsr.release.locate import locate
    from tudsr.tracking import end_run, log_evaluation

    champion = None
    if champion_version:
        found = locate(champion_version, profile.registry.model_name)
        champion = (found.version or champion_version, found.path)
    adapters = {1: stage1 / "adapter.safetensors", 2: stage2 / "adapter.safetensors"}
    examination = examine(profile, adapters, pairs, champion)
    facts = {
        "pipeline run": get_step_context().pipeline_run.name,
        "data": data_version,
        "base": base_version,
        "seed": str(profile.seed),
    }
    out = outputs_dir() / "run" / "evaluation"
    metrics = {"stage 1": stage1 / "metrics.jsonl", "stage 2": stage2 / "metrics.jsonl"}
    write_evaluation(out, examination, metrics, facts, judged_by_the_loss)
    verdict, run = examination.verdict, mlflow_run(profile.registry)
    log_evaluation(run, verdict, out)
    if not verdict.open:
        end_run(run, "FAILED")  # packaging refuses it, so no later step ends the run
    log_metadata({"open": verdict.open, "trunks": trunks, **verdict.gains})
    return verdict, out, HTMLString((out / "report.html").read_text("utf-8"))
