"""``tudsr_full`` on the profile `smoke`: every real component, and what the cache notices."""

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

STEPS = (
    "validate_data",
    "synthesize_degradations",
    "train_stage1",
    "train_stage2",
    "gate_metrics",
    "package_bento",
    "register_model",
)


def ran(run: dict) -> set[str]:
    """The steps that were run and not served from cache."""
    return {name for name, status in run["steps"].items() if status != "cached"}


def test_every_step_completes_and_a_version_is_registered(runs, project):
    first = runs["first"]
    assert first["error"] is None, runs["log"]["text"][-4000:]
    assert set(first["steps"]) == set(STEPS)
    assert ran(first) == set(STEPS)
    assert first["registered"] == {"1": ["challenger"]}
    assert first["model_versions"] == [1]


def test_nothing_changed_is_served_from_cache(runs):
    # Only the registry knows what is in it, so that step always asks; it changes nothing.
    assert ran(runs["again"]) == {"register_model"}
    assert runs["again"]["registered"] == runs["first"]["registered"]


def test_a_change_in_the_library_is_noticed(runs):
    assert ran(runs["code"]) == set(STEPS)
    assert runs["code"]["error"] is None


def test_a_changed_photograph_is_noticed(runs):
    assert {"validate_data", "train_stage1", "train_stage2"} <= ran(runs["photograph"])
    assert runs["photograph"]["error"] is None


def test_another_champion_is_noticed_by_the_gate_alone(runs):
    champion = runs["champion"]
    assert champion["error"] is None
    assert "gate_metrics" in ran(champion)
    assert not ran(champion) & {"validate_data", "train_stage1", "train_stage2"}


def test_a_closed_gate_stops_packaging_and_says_so(runs):
    closed = runs["closed gate"]
    assert closed["steps"]["gate_metrics"] == "completed"
    assert closed["steps"]["package_bento"] == "failed"
    assert "register_model" not in closed["steps"]
    assert closed["registered"] == runs["champion"]["registered"]
    assert "the gate is closed" in runs["log"]["text"]
    assert "Nothing was packaged or registered" in runs["log"]["text"]


def test_a_missing_folder_is_one_clear_error_and_loses_nothing(runs):
    broken = runs["no photographs"]
    assert broken["steps"] == {"validate_data": "failed"}
    assert "has no folder train/" in runs["log"]["text"]
    assert "dvc pull" in runs["log"]["text"]
    assert broken["registered"] == runs["champion"]["registered"]


def test_the_summary_is_each_runs_own(runs):
    told = {label: run["summary"] for label, run in runs.items() if label != "log"}
    for label in ("first", "again"):
        assert told[label] == {"verdict": {"open": True}, "version": "1"}
    newest = max(runs["champion"]["registered"], key=int)
    assert told["champion"] == {"verdict": {"open": True}, "version": newest}
    assert told["closed gate"] == {"verdict": {"open": False}, "version": None}
    assert told["no photographs"] == {"verdict": None, "version": None}


def test_mlflow_shows_no_run_as_running_that_has_ended(runs):
    told = {label: run["mlflow"] for label, run in runs.items() if label != "log"}
    assert told.pop("closed gate") == ["FAILED"]
    assert told.pop("no photographs") == []
    assert set(map(tuple, told.values())) == {("FINISHED",)}


def test_the_run_leaves_a_report_a_bundle_and_training_figures(runs, project):
    out = project / "outputs"
    report = (out / "run" / "evaluation" / "report.html").read_text("utf-8")
    assert "<svg" in report
    assert "data:image/webp;base64," in report
    assert "http://" not in report.replace("http://www.w3.org", "")
    verdict = json.loads((out / "run" / "evaluation" / "verdict.json").read_text("utf-8"))
    registered = runs["champion"]["registered"].items()
    # Promotion compares numbers; the hash behind it is for the cache alone.
    assert verdict["champion"] in [n for n, aliases in registered if "champion" in aliases]
    assert (out / "run" / "bundle" / "MODEL_CARD.md").is_file()
    for stage in ("adapter1", "adapter2"):
        assert (out / "train" / stage / "adapter.safetensors").is_file()


def test_mlflow_has_losses_and_pictures(runs, project, environment):
    code = (
        "import mlflow; from tudsr.tracking import tracking_uri;"
        "c = mlflow.MlflowClient(tracking_uri());"
        "r = c.search_runs([e.experiment_id for e in c.search_experiments()])[-1];"
        "print(sorted(r.data.metrics)); "
        "print([f.path for s in ('stage1', 'stage2') for f in c.list_artifacts(r.info.run_id, s)])"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=project, env=environment, capture_output=True, text=True
    )
    metrics, artifacts = told.stdout.strip().splitlines()[-2:]
    for name in ("loss_l1", "images_per_s", "peak_memory_gib", "rate"):
        assert name in metrics
    for stage in ("stage1", "stage2"):
        assert re.search(rf"{stage}/\d+-sample\.png", artifacts)


@pytest.mark.parametrize("source", ["tudsr_full", "pipelines.tudsr_full"])
def test_the_literal_command_works_and_is_cached(runs, project, environment, source):
    data = project / "data"
    (data / "train").mkdir(exist_ok=True)
    _restore(data / "train")
    zenml = Path(sys.executable).with_name("zenml")
    command = [str(zenml), "pipeline", "run", source, "-c", "configs/run-smoke.yaml"]
    start = time.monotonic()
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    steps = _newest_run(project, environment)
    assert set(steps) == set(STEPS)
    assert steps["train_stage1"] == steps["train_stage2"] == "cached"
    assert time.monotonic() - start < 120


def _newest_run(project: Path, environment: dict[str, str]) -> dict[str, str]:
    """Each step's status in the newest run."""
    code = (
        "import json; from zenml.client import Client; c = Client();"
        "r = c.list_pipeline_runs(sort_by='desc:created', size=1).items[0];"
        "steps = c.get_pipeline_run(r.id, hydrate=True).steps;"
        "print(json.dumps({name: step.status.value for name, step in steps.items()}))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=project, env=environment, capture_output=True, text=True
    )
    return json.loads(told.stdout.strip().splitlines()[-1])


def _restore(train: Path) -> None:
    """The driver took the photographs away: they are the same again, so the cache holds."""
    source = Path(__file__).resolve().parents[2] / "data" / "train"
    for photo in sorted(source.iterdir())[:9]:
        shutil.copy(photo, train)


def test_status_says_what_was_made_and_what_to_do_next(runs, project, environment):
    told = subprocess.run(
        [sys.executable, "-m", "tudsr", "status"],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
    ).stdout
    for words in ("gate: open", "registered: tudsr-smoke version", "report.html", "promote"):
        assert words in told
