"""Runs ``tudsr_full`` several times in a copy of the project, changing one thing between runs.

Prints one JSON line a run: what was changed, each step's status, and the error if it failed.
"""

import json
import shutil
import sys
from pathlib import Path

from PIL import Image
from zenml.client import Client
from zenml.utils import source_utils

HERE = Path.cwd()
OUTPUTS = HERE / "outputs" / "run"


def run(label: str, **parameters: str) -> None:
    from pipelines.full import tudsr_full

    error = None
    try:
        tudsr_full(**{"profile": "smoke", **parameters})
    except Exception as failure:  # what failed is what this prints
        error = f"{type(failure).__name__}: {failure}"
    last = Client().list_pipeline_runs(sort_by="desc:created", size=1).items[0]
    last = Client().get_pipeline_run(last.id, hydrate=True)
    steps = {name: step.status.value for name, step in last.steps.items()}
    versions = [m.number for m in Client().list_model_versions("tudsr")]
    from tudsr.release.registry import list_versions
    from tudsr.release.summary import read_summary

    summary = read_summary()
    summary = summary.model_dump(include={"verdict": {"open"}, "version": True}) if summary else {}
    registered = {v.version: v.aliases for v in list_versions("tudsr-smoke")}
    told = {"run": label, "steps": steps, "error": error, "registered": registered}
    told |= {"model_versions": versions, "summary": summary, "mlflow": mlflow_status(last.name)}
    print(json.dumps(told), flush=True)


def mlflow_status(pipeline_run: str) -> list[str]:
    """How MLflow shows the run that belongs to a pipeline run; empty where there is none."""
    from mlflow import MlflowClient

    from tudsr.tracking import tracking_uri

    client = MlflowClient(tracking_uri())
    experiments = [e.experiment_id for e in client.search_experiments()]
    found = client.search_runs(experiments, f"tags.`tudsr.pipeline_run` = '{pipeline_run}'")
    return [run.info.status for run in found]


def main() -> None:
    source_utils.set_custom_source_root(str(HERE))
    run("first")
    run("again")
    with (HERE / "tudsr" / "errors.py").open("a", encoding="utf-8") as source:
        source.write("\n# a change that does nothing\n")
    run("code")
    photo = sorted((HERE / "data" / "train").iterdir())[0]
    Image.open(photo).convert("RGB").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(photo)
    run("photograph")
    from tudsr.release.promotion import promote

    promote("tudsr-smoke", actor="test")
    run("champion")
    profile = HERE / "configs" / "profiles" / "strict.yaml"
    profile.write_text("extends: smoke\ngate: {min_perceptual_gain: 0.99}\n", "utf-8")
    run("closed gate", profile="strict")
    shutil.rmtree(HERE / "data" / "train")
    run("no photographs")


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    main()
