"""Every pipeline, compiled: both documents hold, per step, what the profile and the pools say."""

import json

import pytest
import yaml
from typer.testing import CliRunner

from tests.kubeflow.conftest import IMAGE
from tests.kubeflow.references import dangling, read, read_file
from tudsr.errors import SettingsError
from tudsr.profile import load_profile, profile_names

PIPELINES = ("tudsr_full", "tudsr_base")
FULL = {
    "validate-data": set(),
    "synthesize-degradations": {"validate-data"},
    "train-stage1": {"validate-data"},
    "train-stage2": {"validate-data", "train-stage1"},
    "gate-metrics": {"synthesize-degradations", "train-stage1", "train-stage2"},
    "package-bento": {"gate-metrics", "train-stage1", "train-stage2", "validate-data"},
    "register-model": {"gate-metrics", "package-bento"},
}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """``tudsr kubeflow compile``, once for each pipeline and profile: (document, text)."""
    folder = tmp_path_factory.mktemp("compiled")
    made = {}

    def compile_once(pipeline, profile):
        from pipelines.kubeflow.commands import app

        if (pipeline, profile) not in made:
            out = folder / f"{pipeline}-{profile}.yaml"
            options = ["compile", "-o", str(out), "--image", IMAGE]
            options += ["--pipeline", pipeline, "--profile", profile]
            done = CliRunner().invoke(app, options, catch_exceptions=False)
            assert done.exit_code == 0, done.output
            made[pipeline, profile] = (read_file(out), out.read_text("utf-8"))
        return made[pipeline, profile]

    return compile_once


@pytest.fixture(scope="module")
def sd21(compiled):
    return compiled("tudsr_full", "sd21")[0]


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("profile", profile_names())
def test_both_documents_parse_and_no_reference_dangles(compiled, pipeline, profile):
    document, _ = compiled(pipeline, profile)
    assert document.tasks
    assert dangling(document) == []


def test_steps_wait_for_what_they_read(sd21):
    assert {name: set(task.dependent_tasks) for name, task in sd21.tasks.items()} == FULL


@pytest.mark.parametrize("task", FULL)
def test_each_step_is_where_the_profile_puts_it(sd21, pools, task):
    place = getattr(load_profile("sd21").cluster, task.replace("-", "_"))
    pool, told = pools.pools[place.pool], sd21.kubernetes(task)
    assert dict(told.node_selector.labels) == pool.node_selector
    assert [(t.key, t.operator, t.effect) for t in told.tolerations] == [
        (t.key, t.operator, t.effect) for t in pool.tolerations
    ]
    resources = sd21.container(task)["resources"]
    assert float(resources["resourceCpuLimit"]) == place.cpus
    assert resources["resourceMemoryLimit"] == f"{place.memory_gib * 1024:.0f}Mi"
    assert resources["resourceMemoryRequest"] == resources["resourceMemoryLimit"]
    assert told.active_deadline_seconds == place.timeout_h * 3600
    assert sd21.tasks[task].retry_policy.max_retry_count == place.retries


@pytest.mark.parametrize("task", ["train-stage1", "train-stage2", "gate-metrics"])
def test_gpu_steps_ask_for_their_gpus(sd21, task):
    accelerator = sd21.container(task)["resources"]["accelerator"]
    assert accelerator["resourceType"] == "nvidia.com/gpu"
    assert accelerator["resourceCount"] == "1"


def test_cpu_steps_ask_for_none(sd21):
    for task in ("validate-data", "package-bento"):
        assert "accelerator" not in sd21.container(task)["resources"]


def test_shared_memory_is_a_memory_volume_of_the_asked_size(sd21):
    (mount,) = sd21.kubernetes("train-stage1").empty_dir_mounts
    assert (mount.mount_path, mount.medium, mount.size_limit) == ("/dev/shm", "Memory", "8192Mi")
    assert not sd21.kubernetes("validate-data").empty_dir_mounts


@pytest.mark.parametrize("task", FULL)
def test_each_step_has_volume_user_labels_and_a_fixed_image(sd21, task):
    told, container = sd21.kubernetes(task), sd21.container(task)
    (claim,) = told.pvc_mount
    assert (claim.constant, claim.mount_path) == ("tudsr-checkpoints", "/var/tudsr")
    assert {"name": "TUDSR_VOLUME", "value": "/var/tudsr"} in container["env"]
    assert told.security_context.run_as_non_root
    assert told.security_context.run_as_user > 0
    assert told.pod_metadata.labels["app.kubernetes.io/name"] == "tudsr"
    assert container["image"] == IMAGE


def test_secrets_are_names_only(compiled):
    document, text = compiled("tudsr_full", "sd21")
    for task in document.tasks:
        given = {(s.secret_name, k.secret_key) for s in document.kubernetes(task).secret_as_env
                 for k in s.key_to_env}  # fmt: skip
        assert ("tudsr-zenml", "ZENML_STORE_API_KEY") in given
        (settings,) = document.kubernetes(task).config_map_as_env
        assert settings.config_map_name == "tudsr-settings"
        names = {variable["name"] for variable in document.container(task)["env"]}
        assert names == {"TUDSR_VOLUME"}
    assert "://" not in text, "an address stands in the specification"


def test_the_steps_run_zenmls_entrypoint_with_the_runs_ids(sd21):
    container = sd21.container("train-stage1")
    assert container["command"] == ["python", "-m", "zenml.entrypoints.entrypoint"]
    inputs = sd21.tasks["train-stage1"].inputs.parameters
    assert inputs["run_id"].runtime_value.constant.string_value == "{{$.pipeline_job_uuid}}"
    assert inputs["snapshot_id"].component_input_parameter == "snapshot_id"


def test_the_checker_of_references_bites(compiled):
    _, text = compiled("tudsr_full", "smoke")

    def broken(change):
        spec, platform = yaml.safe_load_all(text)
        change(spec, platform)
        return dangling(read(spec, platform))

    tasks = lambda spec: spec["root"]["dag"]["tasks"]  # noqa: E731
    waits = lambda s, _: tasks(s)["train-stage1"]["dependentTasks"].append("x")  # noqa: E731
    assert broken(waits) == ["train-stage1: waits for x", "never ready: gate-metrics"] + [
        f"never ready: {n}" for n in ("package-bento", "register-model")
    ] + ["never ready: train-stage1", "never ready: train-stage2"]
    assert "component without executor: exec-gate-metrics" in broken(
        lambda s, _: s["deploymentSpec"]["executors"].pop("exec-gate-metrics")
    )
    assert broken(lambda s, _: tasks(s)["gate-metrics"]["inputs"]["parameters"].pop("run_id"))
    assert broken(lambda s, _: s["root"]["inputDefinitions"]["parameters"].pop("snapshot_id"))
    with pytest.raises(Exception, match="no field named"):
        broken(lambda s, p: p["platforms"]["kubernetes"]["deploymentSpec"]["executors"][
            "exec-gate-metrics"].update(nodeSelectr={}))  # fmt: skip


def test_compiling_needs_a_digest_and_writes_nothing_without(tmp_path):
    from pipelines.kubeflow.commands import app

    out = tmp_path / "spec.yaml"
    for image in ("registry.example/tudsr:latest", "registry.example/tudsr@sha256:abc"):
        with pytest.raises(SettingsError, match=r"not fixed by its digest.*tudsr images"):
            CliRunner().invoke(
                app, ["compile", "-o", str(out), "--image", image], catch_exceptions=False
            )
    assert not out.exists()


def test_the_plan_adds_up(pools):
    from pipelines import tudsr_full
    from pipelines.kubeflow.commands import app
    from pipelines.kubeflow.drawing import draw
    from pipelines.kubeflow.plan import estimates

    profile = load_profile("sd21")
    found = {e.demand.step: e for e in estimates(draw(tudsr_full, "sd21", "", pools), profile)}
    stage1 = found["train_stage1"]
    place = profile.cluster.train_stage1
    expected = place.overhead_min / 60 + profile.stage1.images / place.images_per_s / 3600
    assert stage1.hours == pytest.approx(expected)
    assert stage1.gpu_hours == pytest.approx(expected)
    assert stage1.cost == pytest.approx(expected * 32.0 / 8)  # one of the node's eight GPUs
    told = CliRunner().invoke(app, ["plan", "--profile", "sd21"], catch_exceptions=False).output
    assert "Not measured" in told
    assert f"{sum(e.gpu_hours for e in found.values()):.1f}" in told
    assert f"{sum(e.cost for e in found.values()):.2f}" in told


def test_gpus_that_training_would_not_use_are_refused(tmp_path):
    from pipelines.kubeflow.commands import app

    mine = tmp_path / "mine.yaml"
    mine.write_text("extends: sd21\ncluster: {train_stage1: {gpus: 4}}\n", "utf-8")
    with pytest.raises(SettingsError, match=r"gpus is 4 and runtime\.devices is 1"):
        CliRunner().invoke(app, ["plan", "--profile", str(mine)], catch_exceptions=False)


def test_a_plan_without_a_throughput_says_unknown(tmp_path):
    from pipelines.kubeflow.commands import app

    mine = tmp_path / "mine.yaml"
    mine.write_text("extends: smoke\n", "utf-8")
    told = CliRunner().invoke(app, ["plan", "--profile", str(mine)], catch_exceptions=False).output
    assert told.count("unknown") >= 2


def test_the_documents_are_plain_data(compiled):
    _, text = compiled("tudsr_base", "tiny")
    json.dumps(list(yaml.safe_load_all(text)))
