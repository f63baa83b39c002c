"""What ``tudsr deploy`` refuses, and what it says then; the cluster stays as it is."""

from __future__ import annotations

import shutil
import socket

import pytest

from deploy.cluster import Cluster, ClusterError, UnreachableError
from tests.k8s.conftest import NOBODY, served
from tests.k8s.loopback import write_kubeconfig
from tudsr.errors import RegistryError, SettingsError


def test_an_expired_token_is_said(run, api):
    api.token = "a newer one"
    with pytest.raises(ClusterError, match=r"\(401\): the token has expired.*Sign in again"):
        run("apply", "gpu")


def test_an_unreachable_cluster_is_said(run, api, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        api.kubeconfig = write_kubeconfig(tmp_path / "other", free.getsockname()[1])
    with pytest.raises(UnreachableError, match=r"does not answer.*get-contexts"):
        run("status")


def test_a_cluster_that_is_too_slow_is_said(api):
    cluster = Cluster(api.kubeconfig, request_timeout_s=0.5)
    api.delay_s = 1.5
    with pytest.raises(UnreachableError, match="does not answer"):
        cluster.get("v1", "Secret", "tudsr-tls", "tudsr")


def test_no_kubeconfig_is_said(tmp_path):
    with pytest.raises(ClusterError, match="no cluster to talk to"):
        Cluster(tmp_path / "missing")


def test_a_missing_secret_is_refused_with_the_line_that_makes_it(run, api):
    del api.objects["Secret", "tudsr", "tudsr-tls"]
    del api.objects["Secret", "tudsr", "tudsr-stores"]["data"]["AWS_SECRET_ACCESS_KEY"]
    with pytest.raises(ClusterError, match="create secret tls tudsr-tls --cert") as refusal:
        run("apply", "gpu")
    assert "create secret generic tudsr-stores --from-literal=AWS_ACCESS_KEY_ID=..." in str(
        refusal.value
    )
    assert api.changes() == []


def test_a_kind_that_the_cluster_lacks_is_refused_with_what_brings_it(run, api):
    del api.kinds["keda.sh/v1alpha1"]
    with pytest.raises(ClusterError, match=r"ScaledObject \(keda.sh/v1alpha1\): install KEDA"):
        run("apply", "gpu")
    assert api.changes() == []


def test_images_without_a_digest_are_refused(run, api, tmp_path, k8s):
    bare = shutil.copytree(k8s, tmp_path / "k8s")
    record = bare / "images" / "kustomization.yaml"
    record.write_text(record.read_text().replace("tudsr/serve", "tudsr/other"))
    with pytest.raises(SettingsError, match=r"images without a digest: serve.*tudsr images"):
        run("apply", "gpu", at=bare)
    assert api.changes() == []


@pytest.mark.parametrize(
    ("version", "says"),
    [("9", "no version 9 of tudsr. Versions: 1, 2, 3"), ("3", "did not pass the gate")],
)
def test_a_version_that_may_not_be_served_is_refused(run, deployed, version, says):
    with pytest.raises(RegistryError, match=says):
        run("canary", version)
    assert served(deployed) == NOBODY


def test_a_second_challenger_is_refused(run, deployed):
    run("canary", "2")
    with pytest.raises(SettingsError, match="version 2 is under trial with 10 %"):
        run("canary", "1")


def test_a_canary_needs_the_endpoint_to_be_there(run):
    with pytest.raises(ClusterError, match="deploy apply gpu"):
        run("canary", "2")


def test_an_unknown_overlay_is_refused(run):
    with pytest.raises(SettingsError, match="no overlay 'tpu'; there are cpu, gpu"):
        run("apply", "tpu")
