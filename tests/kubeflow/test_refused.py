"""What could only fail on the cluster is refused before anything is submitted, with the remedy."""

import pytest
import yaml
from zenml.config.resource_settings import ResourceSettings
from zenml.integrations.kubernetes.pod_settings import KubernetesPodSettings

from pipelines.kubeflow.demand import Demand
from pipelines.kubeflow.flavor import PoolsConfig, PoolsSettings
from pipelines.kubeflow.pods import pod_extras
from pipelines.kubeflow.pools import load_pools
from pipelines.kubeflow.secrets import DEFAULT, check_secrets, parse_secrets
from pipelines.kubeflow.specification import Cluster, Task, write_specification
from pipelines.kubeflow.tasks import demand_of, in_order
from tests.kubeflow.conftest import IMAGE
from tudsr.errors import SettingsError

FIELDS = {"gpus": 1, "cpus": 4.0, "memory_gib": 32.0, "shm_gib": 4.0, "retries": 1}


def task(pools, pool="a100", image=IMAGE, environment=None, **changed):
    demand = Demand("train_stage1", pool, pools.pools[pool], timeout_s=60, **FIELDS | changed)
    return Task("train_stage1", (), image, demand, environment or {})


def write(tmp_path, one, secrets=DEFAULT, claim="checkpoints"):
    file = tmp_path / "spec.yaml"
    try:
        write_specification("one", [one], Cluster(secrets, claim), file)
    finally:
        assert file.exists() is False or yaml.safe_load_all(file.read_text("utf-8"))
    return file


def test_a_sound_task_is_written(pools, tmp_path):
    assert write(tmp_path, task(pools)).is_file()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"gpus": 9}, "asks for 9 GPUs and a node has 8; ask for at most 8"),
        ({"pool": "cpu"}, "asks for 1 GPUs and a node has 0; name a pool that has GPUs"),
        ({"gpus": 0}, "asks for no GPU on nodes that have 8"),
        ({"memory_gib": 2000.0}, "asks for 2000 GiB and a node has 1300; lower memory_gib"),
        ({"cpus": 91.0}, "asks for 91 cores and a node has 90; lower cpus"),
        ({"shm_gib": 32.0}, "shared memory counts as main memory"),
        ({"image": "registry.example/tudsr:1.0"}, "not fixed by its digest.*tudsr images"),
        ({"environment": {"HF_TOKEN": "x"}}, "HF_TOKEN as plain environment.*Kubernetes Secret"),
    ],
)
def test_what_no_node_can_run_is_not_written(pools, tmp_path, changed, said):
    with pytest.raises(SettingsError, match=said):
        write(tmp_path, task(pools, **changed))
    assert not (tmp_path / "spec.yaml").exists()


def test_retries_without_a_volume(pools, tmp_path):
    with pytest.raises(SettingsError, match=r"no checkpoint volume.*checkpoint_claim"):
        write(tmp_path, task(pools), claim=None)


@pytest.mark.parametrize(
    ("secrets", "said"),
    [
        ({}, "ZENML_STORE_URL and ZENML_STORE_API_KEY.*docs/kubeflow.md"),
        ({"tudsr-zenml": ["ZENML_STORE_URL"]}, "no Secret gives the steps ZENML_STORE_API_KEY"),
        ({"": ["ZENML_STORE_URL"]}, "is no Secret: it needs a name"),
        ({"Tudsr_Zenml": ["ZENML_STORE_URL"]}, "lower case letters"),
        ({"tudsr-zenml": []}, "at least one key"),
    ],
)
def test_a_missing_secret(pools, tmp_path, secrets, said):
    with pytest.raises(SettingsError, match=said):
        write(tmp_path, task(pools), secrets=secrets)
    assert not (tmp_path / "spec.yaml").exists()


def test_secrets_on_the_command_line():
    assert parse_secrets(["a=X,Y", "b=Z"]) == {"a": ["X", "Y"], "b": ["Z"]}
    with pytest.raises(SettingsError, match="NAME=VARIABLE"):
        parse_secrets(["a"])
    check_secrets(DEFAULT)


def test_an_unknown_pool_names_the_nearest(pools):
    with pytest.raises(SettingsError, match=r"'a10'.*did you mean 'a100'.*cpu, h100, l4"):
        pools.find("a10", "train_stage1")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pools: {}", "pools"),
        ("pools: {a: {cpus: 1, memory_gib: 1, price_per_hour: 1}}", "node_selector"),
        ("pools: {a: {cpu: 1}}", "pools.a.cpu"),
        ("pools: {a: {cpus: 0, memory_gib: 1, price_per_hour: 1}}", "greater than 0"),
        ("pools: [", "not valid YAML"),
        ("pools: {a: {cpus: 1, memory_gib: 1, price_per_hour: 1, gpus: 1,"
         " node_selector: {a: b}}}", "gpu_memory_gib"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_pools_file(tmp_path, text, said):
    file = tmp_path / "pools.yaml"
    file.write_text(text, "utf-8")
    with pytest.raises(SettingsError, match=said):
        load_pools(file)


def test_no_pools_file(tmp_path):
    with pytest.raises(SettingsError, match=r"no pools at .*pools\.yaml: .* with --pools"):
        load_pools(tmp_path / "pools.yaml")


def test_zenmls_resource_settings_are_taken(pools):
    resources = ResourceSettings(cpu_count=0.5, gpu_count=2, memory="1500MB")
    demand = demand_of("s", resources, PoolsSettings(pool="h100"), 0, pools)
    assert (demand.gpus, demand.cpu_quantity, demand.memory_quantity) == (2, "500m", "1431Mi")


def test_pod_settings_are_kept_and_passed_on():
    settings = PoolsSettings(
        pod_settings=KubernetesPodSettings(
            node_selectors={"zone": "a"},
            tolerations=[{"key": "spot", "operator": "Exists", "tolerationSeconds": 5}],
            labels={"team": "sr"},
            affinity={"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [
                    {"key": "disk", "operator": "In", "values": ["nvme"]}]}]}}},
        )
    )  # fmt: skip
    extras = pod_extras("s", settings.pod_settings)
    assert extras.node_selectors == {"zone": "a"}
    assert extras.tolerations[0].toleration_seconds == 5
    assert extras.node_expressions == [{"key": "disk", "operator": "In", "values": ["nvme"]}]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"host_ipc": True}, "cannot pass on pod_settings host_ipc"),
        ({"tolerations": [{"key": "a", "operator": "Maybe"}]}, "toleration"),
        ({"affinity": {"podAffinity": {"x": 1}}}, "only a nodeAffinity"),
    ],
)
def test_pod_settings_that_would_be_lost(given, said):
    with pytest.raises(SettingsError, match=said):
        pod_extras("s", KubernetesPodSettings(**given))


def test_steps_that_wait_for_each_other():
    assert list(in_order({"b": ("a",), "a": (), "c": ("a", "b")})) == ["a", "b", "c"]
    with pytest.raises(SettingsError, match="wait for each other"):
        list(in_order({"a": ("b",), "b": ("a",)}))


def test_a_password_without_a_user():
    with pytest.raises(ValueError, match="together"):
        PoolsConfig(client_password="x")
    assert PoolsConfig().handles_step_retries
