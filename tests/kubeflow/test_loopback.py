"""Real ZenML server, real S3 and MLflow servers, a loopback Kubeflow: submission, then whole runs.

``make kubeflow-integration`` runs the tests named ``test_submission_…``, ``make kubeflow-e2e``
those named ``test_end_to_end_…``. They are in one file because the servers start once for it.
"""

import json
import os
import signal
import time

import pytest
import yaml

from tests.kubeflow.cluster import CLAIM, ROOT, RUN_S, TOKEN, serve_runs
from tests.kubeflow.references import dangling, read

pytestmark = pytest.mark.slow

STEPS = (
    "validate_data",
    "synthesize_degradations",
    "train_stage1",
    "train_stage2",
    "gate_metrics",
    "package_bento",
    "register_model",
)
KEY = "orchestrator.tudsr_kubeflow"
RUN = "pipeline run tudsr_full -s kubeflow -c"
PROFILE = "extends: smoke\nstage1: {checkpoint_every: 4, log_every: 4, images: 48}\n"


@pytest.fixture
def quiet_cluster(laptop):
    """The API takes runs and nobody runs them."""
    laptop.api.requests.clear()
    laptop.api.on_run = lambda run: None
    yield laptop
    laptop.api.token = TOKEN
    laptop.api.faults = []
    serve_runs(laptop)


def changed(laptop, name, change):
    """A run file with something changed; its path."""
    file = laptop.folder / laptop.profile(name, "extends: smoke\n")
    run = yaml.safe_load(file.read_text("utf-8"))
    change(run)
    file.write_text(yaml.safe_dump(run), "utf-8")
    return str(file.relative_to(laptop.folder))


def step_settings(**settings):
    return lambda run: run.update(steps={"train_stage1": {"settings": settings}})


REFUSED = {
    "pool": (
        step_settings(**{KEY: {"pool": "a10"}}),
        "train_stage1 asks for pool 'a10', which is not in k8s/pools.yaml; did you mean 'a100'",
    ),
    "memory": (
        step_settings(resources={"memory": "4TB"}),
        "and a node has 56; lower memory_gib",
    ),
    "image": (
        lambda run: run["settings"]["docker"].update(parent_image="registry.example/tudsr:1"),
        "not fixed by its digest",
    ),
}

_TRY_ALL = """
import json
from zenml.client import Client
Client().activate_stack("kubeflow")
from pipelines.full import tudsr_full
for name, file in {files!r}.items():
    try:
        tudsr_full.with_options(config_path=file)()
        print("RESULT", json.dumps([name, "submitted"]))
    except Exception as error:
        print("RESULT", json.dumps([name, f"{{type(error).__name__}}: {{error}}"]))
"""


def test_submission_refuses_what_could_only_fail_there(quiet_cluster):
    files = {name: changed(quiet_cluster, name, change) for name, (change, _) in REFUSED.items()}
    text = quiet_cluster.python(_TRY_ALL.format(files=files))
    told = [line.partition("RESULT ")[2] for line in text.splitlines() if "RESULT " in line]
    told = dict(json.loads(line) for line in told)
    for name, (_, said) in REFUSED.items():
        assert said in told[name], (name, told[name])
    assert quiet_cluster.api.requests == []


def test_submission_with_an_expired_token_says_how_to_renew_it(quiet_cluster):
    quiet_cluster.api.token = "renewed"
    code, text = quiet_cluster.try_zenml(f"{RUN} {changed(quiet_cluster, 'plain', lambda r: None)}")
    assert code != 0
    assert "zenml secret update kubeflow --values api_token=" in text.replace("\n", "")
    assert quiet_cluster.api.requests == [
        ("GET", "/apis/v2beta1/healthz".removeprefix("/apis/v2beta1"))
    ]
    assert not quiet_cluster.api.runs


_ASYNC = """
import json, sys
from zenml.client import Client
from zenml.config.schedule import Schedule
client = Client()
client.activate_stack("kubeflow")
from pipelines.full import tudsr_full
at_once = {"orchestrator.tudsr_kubeflow": {"synchronous": False, "user_namespace": "sr"}}
once = tudsr_full.with_options(config_path=sys.argv[1] if sys.argv[1:] else FILE, settings=at_once)
once()
run = client.list_pipeline_runs(sort_by="desc:created", size=1, hydrate=True).items[0]
orchestrator = client.active_stack.orchestrator
before = orchestrator.fetch_status(run)[0].value
orchestrator._stop_run(run)
after = orchestrator.fetch_status(run)[0].value
nightly = Schedule(name="nightly", cron_expression="0 3 * * *")
once.with_options(schedule=nightly)()
schedule = client.get_schedule("nightly")
recurring = schedule.run_metadata
orchestrator.delete_schedule(schedule)
print("RESULT", json.dumps([before, after, run.run_metadata["orchestrator_url"], list(recurring)]))
"""


def test_submission_cancels_links_and_schedules(quiet_cluster):
    api = quiet_cluster.api
    file = changed(quiet_cluster, "plain", lambda run: None)
    text = quiet_cluster.python(f"FILE = {file!r}\n{_ASYNC}")
    line = [line for line in text.splitlines() if line.startswith("RESULT ")][-1]
    before, after, link, recurring = json.loads(line.removeprefix("RESULT "))
    assert (before, after) == ("provisioning", "stopped")
    (run_id,) = api.runs
    assert link.endswith(f"/_/pipeline/?ns=sr#/runs/details/{run_id}")
    assert ("POST", f"/runs/{run_id}:terminate") in api.requests
    assert "recurring_run_id" in recurring
    assert not api.schedules, "the schedule was deleted"
    spec = api.runs[run_id].pipeline_spec
    document = read(spec["pipeline_spec"], spec["platform_spec"])
    assert dangling(document) == []
    assert {task.replace("-", "_") for task in document.tasks} == set(STEPS)
    _holds_no_secret(quiet_cluster, json.dumps(spec))
    api.runs.clear()


def _holds_no_secret(laptop, text):
    for secret in laptop.stores.secrets.values():
        for name, value in secret.items():
            assert value == "loopback" or value not in text, f"{name} stands in the specification"
    assert "API_TOKEN" not in text
    assert TOKEN not in text


def test_submission_tells_of_a_run_that_failed(quiet_cluster):
    api = quiet_cluster.api
    api.on_run = lambda run: api.finish(run.run_id, "FAILED", "node pool cpu is empty")
    code, text = quiet_cluster.try_zenml(f"{RUN} {changed(quiet_cluster, 'plain', lambda r: None)}")
    assert code != 0
    assert "node pool cpu is empty" in text
    api.runs.clear()


def interrupt_training(laptop):
    """SIGTERM to stage 1's first pod as soon as a checkpoint is on the volume."""
    told = {}

    def meddle(pod, pid):
        if pod.task != "train-stage1" or pod.attempt > 1:
            return
        runs = laptop.nodes.folder / "claims" / CLAIM / "runs"
        end = time.monotonic() + RUN_S
        while pod.exit_code is None and time.monotonic() < end:
            if list(runs.glob("*/outputs/train/stage1/*/checkpoints/[0-9]*/state.json")):
                os.kill(pid, signal.SIGTERM)
                told["killed"] = True
                return
            time.sleep(0.005)

    laptop.nodes.meddle = meddle
    return told


@pytest.fixture(scope="module")
def first(laptop):
    """The whole pipeline, stage 1 interrupted once: (exit code, what was printed, run, pods)."""
    file = laptop.profile("first", PROFILE)
    interrupt_training(laptop)
    code, text = laptop.typed(f"{RUN} {file}")
    laptop.nodes.meddle = lambda pod, pid: None
    return code, text, laptop.last_run(), list(laptop.nodes.pods)


def logs(pods):
    told = [(p.folder.name, p.exit_code, p.log.read_text("utf-8")[-3000:]) for p in pods]
    return "\n".join(f"== {name} -> {code}\n{text}" for name, code, text in told)


def test_end_to_end_the_run_completes_and_artifacts_are_in_s3(first):
    code, text, run, pods = first
    assert code == 0, text[-3000:] + logs(pods)
    assert run["status"] == "completed"
    assert run["steps"] == dict.fromkeys(STEPS, "completed")
    uris = [uri for step in run["outputs"].values() for uri in step]
    assert len(uris) >= len(STEPS)
    assert all(uri.startswith("s3://artifacts/") for uri in uris)
    assert "/#/runs/details/" in run["metadata"]["orchestrator_url"]


_LOSSES = """
from mlflow import MlflowClient
client = MlflowClient()
run = client.search_runs([e.experiment_id for e in client.search_experiments()])[-1]
told = client.get_metric_history(run.info.run_id, "stage1/loss_l1")
print("RESULT", [metric.step for metric in told])
"""


def test_end_to_end_a_step_interrupted_with_75_resumes_its_training(first, laptop):
    _, _, run, pods = first
    assert [pod.exit_code for pod in pods if pod.task == "train-stage1"] == [75, 0]
    killed = next(p.log.read_text("utf-8") for p in pods if p.task == "train-stage1")
    saved = int(killed.split("was interrupted after ")[1].split()[0])
    assert 4 <= saved < 48
    assert run["step_metadata"]["train_stage1"]["attempts"] == "2"
    text = laptop.python(_LOSSES)
    steps = json.loads(text.rpartition("RESULT ")[2])
    assert max(steps) == 48
    assert len(set(steps)) == len(steps), "a training that starts anew tells its losses twice"


def test_end_to_end_the_photographs_came_by_their_hash(first):
    pods = first[3]
    pod = next(pod for pod in pods if pod.task == "validate-data")
    assert (pod.folder / "app" / "data").is_symlink()
    assert not (ROOT / "data").samefile(pod.folder / "app" / "data")
    assert "Fetched data by its hash" in pod.log.read_text("utf-8")
    for pod in (pod for pod in pods if pod.task != "register-model"):
        assert "data is what the run was started with" in pod.log.read_text("utf-8"), pod.task


def test_end_to_end_the_model_is_registered(first, laptop):
    code = (
        "from tudsr.release.registry import list_versions\n"
        "print('RESULT', [(v.version, *v.aliases) for v in list_versions('tudsr-smoke')])"
    )
    assert "RESULT [('1', 'challenger')]" in laptop.python(code)


def test_end_to_end_a_closed_gate_stops_the_run_and_retries_say_the_same(first, laptop):
    before = len(laptop.nodes.pods)
    file = laptop.profile("closed", "extends: first\ngate: {min_perceptual_gain: 0.99}\n")
    code, _ = laptop.try_zenml(f"{RUN} {file}")
    pods, run = laptop.nodes.pods[before:], laptop.last_run()
    assert code != 0
    assert [p.task for p in pods] == ["gate-metrics"] + ["package-bento"] * 3, logs(pods)
    for pod in pods[1:]:
        assert pod.exit_code == 1
        assert "the gate is closed" in pod.log.read_text("utf-8")
    for pod in pods[2:]:
        assert "attempt 1 failed with this, so it is not tried again" in pod.log.read_text("utf-8")
    assert laptop.nodes.states["register-model"] == "Skipped"
    assert run["status"] == "failed"
    assert run["steps"]["package_bento"] == "failed"
    assert "register_model" not in run["steps"]
    assert run["steps"]["train_stage1"] == "cached"


def test_end_to_end_a_failing_step_fails_the_run_and_nothing_after_it_starts(first, laptop):
    before = len(laptop.nodes.pods)
    file = laptop.profile("broken", "extends: first\ndata: {min_train: 400}\n")
    code, _ = laptop.try_zenml(f"{RUN} {file}")
    pods, run = laptop.nodes.pods[before:], laptop.last_run()
    assert code != 0
    assert {p.task for p in pods} == {"validate-data"}, logs(pods)
    assert len(pods) == 3
    assert run["status"] == "failed"
    assert run["steps"] == {"validate_data": "failed"}
