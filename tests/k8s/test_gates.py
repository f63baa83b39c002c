"""The manifests pass every gate, and every gate bites: ``broken/`` has a fault for each."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from deploy import lint
from deploy.gates import judge, main, twice_in_sources
from deploy.images import K8S
from deploy.lint import check
from deploy.manifests import read
from deploy.preflight import documented_secrets
from deploy.release import find
from deploy.schemas import faults
from tudsr.errors import SettingsError

ROOT = Path(__file__).resolve().parents[2]
BROKEN = sorted((ROOT / "tests" / "k8s" / "broken").glob("*.yaml"))


@pytest.fixture(scope="session")
def good(rendered):
    """Everything that is in the namespace with overlay gpu."""
    return [*rendered["gpu"], *rendered["training"], *rendered["queues"]]


def test_the_manifests_have_no_fault(rendered, k8s):
    assert judge(rendered, k8s) == []
    assert twice_in_sources(k8s) == []


@pytest.mark.parametrize("file", BROKEN, ids=lambda file: file.stem)
def test_a_broken_manifest_is_found(file, good):
    rule, says = file.read_text().splitlines()[0].removeprefix("# ").split(": ", 1)
    objects, changed = broken(copy.deepcopy(good), yaml.safe_load(file.read_text()))
    if rule == "schema":
        told = faults(changed)
        assert any(says in fault for fault in told), told
    else:
        found = check(objects, documented_secrets())
        bitten = [f for f in found if f.rule == rule and says in f.what]
        assert bitten, [str(f) for f in found]
        assert {f.rule for f in found} == {rule}, "one fault each"


def broken(objects, fault):
    """The good objects with the fault, and the object that has it."""
    if "add" in fault:
        return [*objects, fault["add"]], fault["add"]
    (one,) = (
        o for o in objects if (o["kind"], o["metadata"]["name"]) == (fault["kind"], fault["name"])
    )
    for path, value in fault["set"].items():
        put(one, path, value)
    return objects, one


def put(one, path, value):
    """Set the field at ``a.0.b``; requests, limits and labels are merged into those there are."""
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part in way:
        one = one[part]
    there = one[last] if isinstance(one, list) or last in one else None
    merges = isinstance(there, dict) and value and last in {"requests", "limits", "labels"}
    one[last] = {**there, **value} if merges else value


def test_every_rule_has_a_broken_manifest():
    covered = {
        file.read_text().splitlines()[0].removeprefix("# ").split(": ")[0] for file in BROKEN
    }
    sources = "".join(p.read_text() for p in Path(lint.__file__).parent.glob("*.py"))
    rules = set(re.findall(r'Finding\(\s*[\w()]+,\s*"([a-z ]+)"', sources)) | {
        "config map",
        "secrets",
    }
    assert rules - covered == set()


def test_a_key_that_stands_twice_is_refused():
    text = (ROOT / "tests" / "k8s" / "broken" / "duplicate-key.txt").read_text()
    assert yaml.safe_load(text)["data"] == {"TUDSR_SERVE_MAX_JOBS": "5"}, "others take it"
    with pytest.raises(SettingsError, match="'TUDSR_SERVE_MAX_JOBS' stands twice"):
        read(text, "a file")


def test_each_source_file_says_what_it_is_for():
    for file in [*K8S.rglob("*.yaml"), *K8S.rglob("*.Dockerfile")]:
        assert file.read_text().startswith("# "), f"{file} does not say what it is for"
    assert (K8S / "training" / "fetch.sh").read_text().splitlines()[1].startswith("# ")


def test_patches_matched_something(rendered):
    """A kustomize patch that matches nothing is no error."""
    for overlay, device in (("gpu", "cuda"), ("cpu", "cpu")):
        found = 0
        for one in rendered[overlay]:
            if one["kind"] == "Deployment" and "tudsr.dev/track" in one["metadata"]["labels"]:
                spec = one["spec"]["template"]["spec"]
                environment = {e["name"]: e.get("value") for e in spec["containers"][0]["env"]}
                assert environment["TUDSR_DEVICE"] == device and spec["nodeSelector"]
                found += 1
        assert found == 2


def test_pools_are_those_of_the_pools_file(rendered):
    """Where k8s/pools.yaml has a pool, the endpoint and the training select just that."""
    selectors = [
        pool["node_selector"]
        for pool in yaml.safe_load((K8S / "pools.yaml").read_text())["pools"].values()
    ]
    text = json.dumps([rendered["gpu"], rendered["cpu"], rendered["training"], rendered["queues"]])
    used = re.findall(r'"(?:nodeSelector|nodeLabels)": (\{[^}]*\})', text)
    assert used and all(json.loads(one) in selectors for one in used)


def test_the_dashboard_and_the_scaler_ask_for_metrics_that_there_are():
    known = set(re.findall(r'"(tudsr_\w+)"', (ROOT / "serving" / "metrics.py").read_text()))
    asked = (K8S / "base" / "dashboard.json").read_text() + (
        K8S / "base" / "autoscaling.yaml"
    ).read_text()
    names = set(re.findall(r"\b(tudsr_\w+?)(?:_bucket|_sum|_count)?\b(?=[{\[])", asked))
    assert len(names) >= 6 and names <= known


def test_the_endpoint_gets_settings_that_it_reads(rendered):
    from serving.settings import ServeSettings

    fields = ServeSettings.model_fields
    known = {f.validation_alias or f"TUDSR_SERVE_{name.upper()}" for name, f in fields.items()}
    deployment = find(rendered["gpu"], "Deployment", "tudsr-champion")
    inside = deployment["spec"]["template"]["spec"]["containers"][0]
    assert {e["name"] for e in inside["env"]} <= known


def test_zenml_gets_settings_that_it_reads(rendered):
    from zenml.config.server_config import ServerConfiguration

    settings = next(o for o in rendered["gpu"] if o["metadata"]["name"] == "tudsr-zenml")["data"]
    ours = {
        k.removeprefix("ZENML_SERVER_").lower() for k in settings if k.startswith("ZENML_SERVER")
    }
    assert ours and ours <= ServerConfiguration.model_fields.keys()


def test_the_data_volume_is_filled_from_a_dvc_remote(tmp_path):
    """The script that the job runs, on the remote that comes with the project."""
    environment = {"PATH": str(Path(sys.executable).parent) + ":/usr/bin:/bin"}
    environment |= {"TUDSR_DVC_REMOTE": str(ROOT / "dvcstore"), "HOME": str(tmp_path)}
    script = K8S / "training" / "fetch.sh"
    command = ["sh", str(script), str(tmp_path / "volume"), str(ROOT)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "volume" / "data" / "test").glob("*.webp"))
    assert list((tmp_path / "volume" / "models" / "base").iterdir())


def test_the_gates_leave_what_checkov_reads(tmp_path, capsys):
    assert main([str(tmp_path / "out")]) == 0
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "cpu.yaml", "gpu.yaml", "training.yaml", "queues.yaml"
    }  # fmt: skip
    assert "no faults" in capsys.readouterr().out
