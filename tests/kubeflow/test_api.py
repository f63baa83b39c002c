"""The Kubeflow API over HTTP, faults included: what is sent, what is tried again, what is said."""

import socket
import time
from types import SimpleNamespace

import pytest

from pipelines.kubeflow import api as kubeflow
from pipelines.kubeflow.client import connect
from pipelines.kubeflow.flavor import PoolsConfig, PoolsSettings
from pipelines.kubeflow.specification import Cluster as Shared
from pipelines.kubeflow.specification import write_specification
from pipelines.kubeflow.submission import start_run, start_schedule
from tests.kubeflow.kubeflow_api import Cluster, served
from tests.kubeflow.references import dangling, read
from tests.kubeflow.test_refused import DEFAULT, task


@pytest.fixture
def cluster(monkeypatch):
    monkeypatch.setattr(kubeflow, "_PAUSE_S", 0.01)
    monkeypatch.setattr(kubeflow, "_POLL_S", 0.01)
    cluster = Cluster()
    cluster.token = "good"
    return cluster


@pytest.fixture
def address(cluster):
    with served(cluster) as address:
        yield address


@pytest.fixture
def spec(pools, tmp_path):
    file = tmp_path / "spec.yaml"
    write_specification("one", [task(pools)], Shared(DEFAULT, "checkpoints"), file, "snapshot-1")
    return file


def client(address, token="good", timeout_s=0.5):
    config = PoolsConfig(kubeflow_hostname=address, api_token=token, api_timeout_s=timeout_s)
    return connect(config, PoolsSettings(), None, None)


def start(address, spec, **changed):
    with kubeflow.explained(address):
        return start_run(client(address, **changed), spec, "one-1", "one", None)


def test_a_run_is_created_with_both_documents(cluster, address, spec):
    run = cluster.runs[start(address, spec)]
    assert run.display_name == "one-1"
    assert cluster.experiments[run.experiment_id].display_name == "one"
    document = read(run.pipeline_spec["pipeline_spec"], run.pipeline_spec["platform_spec"])
    assert dangling(document) == []
    default = document.pipeline.root.input_definitions.parameters["snapshot_id"].default_value
    assert default.string_value == "snapshot-1"


def test_a_second_run_takes_the_same_experiment(cluster, address, spec):
    start(address, spec)
    start(address, spec)
    assert len(cluster.runs) == 2
    assert len(cluster.experiments) == 1


@pytest.mark.parametrize("token", ["expired", None])
def test_a_wrong_or_expired_token_is_told_at_once(cluster, address, spec, token):
    with pytest.raises(kubeflow.KubeflowError, match=r"401.*expired.*zenml secret update kubeflow"):
        start(address, spec, token=token)
    assert cluster.requests == [("GET", "/healthz")]


def test_what_is_not_allowed_names_the_namespace(cluster, address, spec):
    cluster.faults = [["POST", "runs", 403, 9]]
    with pytest.raises(kubeflow.KubeflowError, match=r"403.*user_namespace"):
        start(address, spec)


@pytest.mark.parametrize("path", ["healthz", "experiments"])
@pytest.mark.parametrize("status", [500, 503])
def test_a_server_that_fails_twice_is_asked_a_third_time(cluster, address, spec, path, status):
    cluster.faults = [["GET", path, status, 2]]
    assert start(address, spec) in cluster.runs


def test_a_server_that_goes_on_failing_is_told(cluster, address, spec):
    cluster.faults = [["GET", "experiments", 503, 99]]
    with pytest.raises(kubeflow.KubeflowError, match=r"503.*Look at its logs"):
        start(address, spec)
    assert not cluster.runs


def test_a_refused_creation_is_not_sent_twice(cluster, address, spec):
    cluster.faults = [["POST", "runs", 500, 1]]
    with pytest.raises(kubeflow.KubeflowError, match="500"):
        start(address, spec)
    assert cluster.requests.count(("POST", "/runs")) == 1


def test_a_run_whose_answer_was_lost_is_found_and_not_started_twice(cluster, address, spec):
    cluster.faults = [["POST", "runs", -503, 1]]
    assert list(cluster.runs) == [start(address, spec)] or len(cluster.runs) == 1
    assert cluster.requests.count(("POST", "/runs")) == 1


def test_silence_ends_after_the_time_limit(cluster, address, spec):
    cluster.faults = [["GET", "healthz", 0, 9]]
    before = time.monotonic()
    with pytest.raises(kubeflow.KubeflowError, match=r"does not answer.*Nothing was submitted"):
        start(address, spec, timeout_s=0.2)
    assert time.monotonic() - before < 3


def test_an_address_where_nothing_listens(spec, cluster):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(kubeflow.KubeflowError, match=r"does not answer.*kubeflow_hostname"):
        start(nobody, spec)


def test_another_server_is_not_taken_for_kubeflow(cluster, address, spec):
    cluster.faults = [["GET", "experiments", 404, 9]]
    with pytest.raises(kubeflow.KubeflowError, match="not a Kubeflow API"):
        start(address, spec)


@pytest.mark.parametrize(
    ("state", "message", "said"),
    [
        ("FAILED", "pod evicted", "failed: pod evicted"),
        ("FAILED", "", "logs in ZenML say why"),
        ("CANCELED", "", "was cancelled"),
    ],
)
def test_a_run_that_ends_badly(cluster, address, spec, state, message, said):
    run_id = start(address, spec)
    cluster.finish(run_id, state, message)
    with pytest.raises(kubeflow.KubeflowError, match=said):
        kubeflow.wait(client(address), run_id, 5, address)


def test_waiting_survives_a_server_that_restarts(cluster, address, spec):
    run_id = start(address, spec)
    cluster.faults = [["GET", "runs/", 503, 2]]
    cluster.finish(run_id, "SUCCEEDED")
    kubeflow.wait(client(address), run_id, 5, address)


def test_waiting_ends_and_says_that_the_run_goes_on(cluster, address, spec):
    run_id = start(address, spec)
    with pytest.raises(kubeflow.KubeflowError, match=r"not ended within 0\.05 s; it goes on"):
        kubeflow.wait(client(address), run_id, 0.05, address)


def test_a_schedule_is_one_recurring_run(cluster, address, spec):
    schedule = SimpleNamespace(
        cron_expression="0 3 * * *",
        interval_second=None,
        utc_start_time=None,
        utc_end_time=None,
        catchup=False,
    )
    names = SimpleNamespace(name="one")
    snapshot = SimpleNamespace(schedule=schedule, pipeline_configuration=names)
    made = start_schedule(client(address), spec, "one-1", snapshot, None)
    kept = cluster.schedules[made]
    assert kept.trigger["cron_schedule"]["cron"] == "0 0 3 * * *"
    assert kept.no_catchup
    assert kept.max_concurrency == 1
    client(address).delete_recurring_run(made)
    assert not cluster.schedules
