"""The README's table: what the last `make run` reached, and how much of it the base alone reaches.

    python -m benchmarks.make_run && python -m benchmarks.readme

Scores the base without adapters on the test pairs, reads the run's own scores and its steps' times,
and writes benchmarks/results/make-run.{json,md}. The model that ships is the run's champion.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.base_alone import zero_adapters
from benchmarks.machine import machine_name
from tudsr.evaluate.judge import examine
from tudsr.evaluate.score import ScoreTable
from tudsr.images.atomic import write_json, write_text
from tudsr.places import outputs_dir
from tudsr.profile import PROJECT_ROOT, Profile, load_profile

if TYPE_CHECKING:
    from zenml.models import StepRunResponse

RESULTS = PROJECT_ROOT / "benchmarks" / "results"
# Heading and digits.
METRICS = {
    "psnr_y": ("PSNR-Y, dB", 2),
    "ssim_y": ("SSIM", 4),
    "lpips_hed": ("lpips_hed", 4),
    "niqe": ("NIQE", 2),
}


def main() -> None:
    """Write the figures and the table."""
    run = outputs_dir() / "run"
    profile = load_profile("tiny")
    verdict = json.loads((run / "evaluation" / "verdict.json").read_text("utf-8"))
    base = _base_alone(profile, run / "pairs")
    means = {"bicubic": verdict["means"]["bicubic"], "base alone": _means(base)}
    means["TUDSR, `make run`"] = verdict["means"]["model"]
    if shipped := verdict["means"].get("champion"):
        means["TUDSR, as it ships"] = shipped
    images = [profile.stage1.images, profile.stage2.images]
    told: dict[str, Any] = {
        "machine": machine_name(),
        "stage_images": images,
        "steps_s": _step_seconds(),
    }
    told["means"] = means
    write_json(RESULTS / "make-run.json", {**told, "gains": verdict["gains"]})
    write_text(RESULTS / "make-run.md", _table(means))
    print((RESULTS / "make-run.md").read_text("utf-8"))


def _base_alone(profile: Profile, pairs: Path) -> ScoreTable:
    """The cascade with adapters of zeros, which are the base itself."""
    with tempfile.TemporaryDirectory() as folder:
        adapters = zero_adapters(profile, Path(folder))
        return examine(profile, adapters, pairs).tables["model"]


def _means(table: ScoreTable) -> dict[str, dict[str, float]]:
    return {f"x{s}": {m: table.mean(m, s) for m in table.metrics} for s in table.scales}


def _table(means: dict[str, Any]) -> str:
    headings = " | ".join(heading for heading, _ in METRICS.values())
    lines = [f"| | | {headings} |", "| --- | --- |" + " --: |" * len(METRICS)]
    for scale in ("x4", "x8"):
        for method, by_scale in means.items():
            cells = [f"{by_scale[scale][m]:.{digits}f}" for m, (_, digits) in METRICS.items()]
            lines.append(f"| {scale} | {method} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _step_seconds() -> dict[str, float]:
    from zenml.client import Client

    newest = Client().list_pipeline_runs(sort_by="desc:created", size=1).items[0]
    steps = Client().get_pipeline_run(newest.id, hydrate=True).steps
    ran = {name: _as_it_ran(step) for name, step in steps.items()}
    return {
        name: round((step.end_time - step.start_time).total_seconds(), 1)
        for name, step in ran.items()
        if step.start_time and step.end_time
    }


def _as_it_ran(step: StepRunResponse) -> StepRunResponse:
    """The step itself, or the one that the cache took its results from."""
    from zenml.client import Client

    before = step.original_step_run_id
    return Client().get_run_step(before) if before else step


if __name__ == "__main__":
    main()
