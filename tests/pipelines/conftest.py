"""A copy of the project with eleven of its photographs, in which pipelines are really run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_CODE = ("tudsr", "steps", "pipelines", "serving", "configs")
_FILES = ("tudsr_full.py", "tudsr_base.py", "pyproject.toml")
_PHOTOS = {"train": 9, "val": 1, "test": 2}


@pytest.fixture(scope="session")
def project(tmp_path_factory) -> Path:
    """The project's code and a few photographs, in a folder of its own."""
    if not (ROOT / "data" / "train").is_dir():
        pytest.fail("no photographs in data/: run `dvc pull` (`make test` does)")
    copy = tmp_path_factory.mktemp("project")
    for name in _CODE:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in _FILES:
        shutil.copy(ROOT / name, copy)
    for split, count in _PHOTOS.items():
        (copy / "data" / split).mkdir(parents=True)
        for photo in sorted((ROOT / "data" / split).iterdir())[:count]:
            shutil.copy(photo, copy / "data" / split)
    return copy


@pytest.fixture(scope="session")
def environment(project) -> dict[str, str]:
    """For processes that work in the copy: its code first, stores of its own."""
    own = {
        "PYTHONPATH": str(project),
        "TUDSR_OUTPUTS": str(project / "outputs"),
        "ZENML_CONFIG_PATH": str(project / "zenml"),
        "BENTOML_HOME": str(project / "bentoml"),
        "OMP_NUM_THREADS": "1",
        "NO_COLOR": "1",
    }
    return {**os.environ, **own}


@pytest.fixture(scope="session")
def runs(project, environment) -> dict[str, dict]:
    """What each run of the driver told, by label; ``log`` is all that was printed."""
    driver = Path(__file__).with_name("driver.py")
    done = subprocess.run(
        [sys.executable, str(driver)],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"run"')]
    assert len(lines) == 7, done.stdout[-3000:] + done.stderr[-3000:]
    return {line["run"]: line for line in lines} | {"log": {"text": done.stdout + done.stderr}}
