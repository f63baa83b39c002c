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

    registered = {v.version: v.aliases for v in list_versions("tudsr")}
    told = {"run": label, "steps": steps, "error": error, "registered": registered}
    print(json.dumps({**told, "model_versions": versions}), flush=True)


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

    promote("tudsr", actor="test")
    run("champion")
    profile = HERE / "configs" / "profiles" / "strict.yaml"
    profile.write_text("extends: smoke\ngate: {min_perceptual_gain: 0.99}\n", "utf-8")
    run("closed gate", profile="strict")
    shutil.rmtree(HERE / "data" / "train")
    run("no photographs")


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    main()
