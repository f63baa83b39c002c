"""The manifests with placeholder digests, and a cluster on loopback."""

from __future__ import annotations

import pytest

from deploy import gates
from deploy.images import K8S
from deploy.preflight import documented_secrets
from tests.k8s.loopback import Api, serve, write_kubeconfig


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
