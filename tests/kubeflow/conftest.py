"""What the tests of the Kubeflow flavor share."""

from pathlib import Path

import pytest

IMAGE = "registry.example/tudsr@sha256:" + "0" * 64
"""An obvious placeholder: no such image exists."""


@pytest.fixture(scope="session", autouse=True)
def source_root():
    """ZenML takes the main script's folder for the project's; a worker of pytest has no script."""
    from zenml.utils.source_utils import set_custom_source_root

    set_custom_source_root(str(Path(__file__).resolve().parents[2]))
    yield
    set_custom_source_root(None)


@pytest.fixture(scope="session")
def pools():
    from pipelines.kubeflow.pools import load_pools

    return load_pools()


@pytest.fixture(scope="session")
def laptop(tmp_path_factory):
    """Servers, a loopback Kubeflow and a registered stack, once for all tests that need them."""
    from tests.kubeflow.cluster import TOKEN, build, quiet, serve_runs
    from tests.kubeflow.kubeflow_api import Cluster, served
    from tests.kubeflow.servers import stores
    from tests.kubeflow.warm import Warm

    folder = tmp_path_factory.mktemp("cluster")
    (folder / "warm").mkdir()
    warm = Warm({**quiet(), "HOME": str(folder / "warm")})
    api = Cluster()
    api.token = TOKEN
    try:
        with stores(folder) as running, served(api) as address:
            made = build(folder, running, warm, api, address)
            serve_runs(made)
            yield made
    finally:
        warm.stop()
