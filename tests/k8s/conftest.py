"""The manifests with placeholder digests, a cluster on loopback, a registry to deploy from."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from deploy import gates
from deploy.commands import app
from deploy.images import K8S
from deploy.ownership import FIELD_MANAGER
from deploy.preflight import documented_secrets
from tests.k8s.loopback import Api, serve, write_kubeconfig
from tests.release.conftest import Parts
from tudsr.profile import RegistrySettings
from tudsr.release.promotion import promote
from tudsr.release.registry import champion, register, registry_client


@pytest.fixture(scope="session")
def k8s(tmp_path_factory):
    """``k8s/`` as it is once images were recorded."""
    return gates.with_placeholders(K8S, tmp_path_factory.mktemp("manifests") / "k8s")


@pytest.fixture(scope="session")
def rendered(k8s):
    """Each overlay's objects, the training jobs' and the quotas'."""
    return gates.rendered(k8s)


@pytest.fixture
def api(tmp_path):
    """A cluster with the namespace and its Secrets; ``api.kubeconfig`` leads to it."""
    made = Api()
    made.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "tudsr"}})
    for name, keys in documented_secrets().items():
        meta = {"name": name, "namespace": "tudsr"}
        data = dict.fromkeys(keys, "c2VjcmV0")
        made.put({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": data})
    server = serve(made)
    made.port = server.server_address[1]
    made.kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", made.port)
    yield made
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def quick_polls(monkeypatch):
    """Rollouts on loopback move on at each look: no need to wait two seconds between them."""
    monkeypatch.setattr("deploy.rollout._POLL_S", 0.01)


@pytest.fixture(scope="session")
def registry(tmp_path_factory):
    """An outputs folder whose registry has versions 1 (champion), 2 and 3 (gate not open)."""
    outputs = tmp_path_factory.mktemp("registry") / "outputs"
    parts = Parts(tmp_path_factory.mktemp("parts"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUDSR_OUTPUTS", str(outputs))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        settings = RegistrySettings(model_name="tudsr", experiment="tests")
        for seed in (1, 2, 3):
            bundle = parts.bundle(tmp_path_factory.mktemp("bundles") / "bundle", seed)
            register(bundle, None, {}, settings)
        with registry_client() as client:
            client.set_model_version_tag("tudsr", "3", "gate", "closed")
        promote("tudsr", "1", actor="test")
    return outputs


@pytest.fixture
def own_registry(own_outputs, registry, monkeypatch):
    """Each test finds version 1 champion."""
    monkeypatch.setenv("TUDSR_OUTPUTS", str(registry))
    yield
    if (found := champion("tudsr")) and found.version != "1":
        promote("tudsr", "1", force_reason="back for the next test")


@pytest.fixture
def deployed(api, rendered):
    """The cluster after ``tudsr deploy apply gpu``."""
    for one in rendered["gpu"]:
        meta = one["metadata"]
        key = (one["kind"], meta.get("namespace", ""), meta["name"])
        api.applied(key, one, FIELD_MANAGER, force=False, dry=False)
    return api


@pytest.fixture
def run(api, k8s, own_registry):
    """Run ``tudsr deploy ...`` against the cluster; an error of ours is raised."""

    def deploy(*arguments, timeout_s=60, at=k8s):
        options = ["--kubeconfig", str(api.kubeconfig)]
        if arguments[0] != "status":
            options += ["--k8s", str(at), "--timeout-s", str(timeout_s)]
        result = CliRunner().invoke(app, [*arguments, *options])
        if result.exception:
            raise result.exception
        return result.output

    return deploy


def served(api) -> dict[str, object]:
    """What the cluster's objects say."""

    def version(track):
        inside = api.get("Deployment", f"tudsr-{track}")["spec"]["template"]["spec"]["containers"]
        return {e["name"]: e.get("value") for e in inside[0]["env"]}.get("TUDSR_MODEL")

    backends = api.get("HTTPRoute", "tudsr")["spec"]["rules"][0]["backendRefs"]
    return {
        "champion": version("champion"),
        "challenger": version("challenger"),
        "pods": api.get("Deployment", "tudsr-challenger")["spec"]["replicas"],
        "weights": [backend["weight"] for backend in backends],
    }


NOBODY = {"champion": None, "challenger": None, "pods": 0, "weights": [100, 0]}
