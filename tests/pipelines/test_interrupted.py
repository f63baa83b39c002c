"""A pipeline told to stop in training: exit code 75, and the same command goes on."""

import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.pipelines.test_full import STEPS, _newest_run, _restore

PROFILE = """
extends: smoke
stage1: {images: 48, batch: 2, accumulate: 1, checkpoint_every: 8, log_every: 8}
"""


def test_sigterm_saves_ends_with_75_and_the_same_command_goes_on(project, environment, tmp_path):
    (project / "data" / "train").mkdir(exist_ok=True)
    _restore(project / "data" / "train")
    profile, run = tmp_path / "long.yaml", tmp_path / "run-long.yaml"
    profile.write_text(PROFILE, "utf-8")
    run.write_text(f"parameters: {{profile: {profile}}}\n", "utf-8")
    zenml = str(Path(sys.executable).with_name("zenml"))
    command = [zenml, "pipeline", "run", "tudsr_full", "-c", str(run)]
    work = project / "outputs" / "train" / "stage1"

    with (tmp_path / "log").open("w") as log:
        first = subprocess.Popen(
            command, cwd=project, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        deadline = time.monotonic() + 200
        while not list(work.glob("*/checkpoints/0*/state.json")):
            assert first.poll() is None and time.monotonic() < deadline, _read(tmp_path)
            time.sleep(0.02)
        first.send_signal(signal.SIGTERM)
        code = first.wait(120)
    assert code == 75, _read(tmp_path)
    said = " ".join(_read(tmp_path).split())
    assert "stage 1 was interrupted after" in said and "start it again to go on" in said
    assert "Traceback" not in said
    stopped = _newest_run(project, environment)
    assert stopped.pop("validate_data") in ("completed", "cached")
    assert stopped.pop("synthesize_degradations") in ("completed", "cached")
    assert stopped == {"train_stage1": "failed"}
    (figures,) = work.glob("*/metrics.jsonl")
    before = figures.read_text("utf-8")

    again = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    assert again.returncode == 0, again.stdout[-3000:] + again.stderr[-3000:]
    finished = _newest_run(project, environment)
    assert set(finished) == set(STEPS)
    assert finished["validate_data"] == finished["synthesize_degradations"] == "cached"
    # Rows hold times, so these are the first process's own.
    whole = (project / "outputs" / "train" / "adapter1" / "metrics.jsonl").read_text("utf-8")
    assert before and whole.startswith(before) and len(whole) > len(before)


def _read(folder: Path) -> str:
    return (folder / "log").read_text("utf-8")
