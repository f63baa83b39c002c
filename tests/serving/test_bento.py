"""The Bento: really built, and really served from the Bento store."""

import json
import shutil
import subprocess
import sys
import urllib.request

import pytest

from serving.build import build_bento, pinned_packages
from tests.serving.conftest import Server
from tudsr.errors import ModelError
from tudsr.release.bundle import load_bundle
from tudsr.release.ship import ship


@pytest.fixture(scope="module")
def bento(bundle, tmp_path_factory):
    """Built from a bundle as it ships: its base lies in ``models/base`` of a project."""
    project = tmp_path_factory.mktemp("project")
    shutil.copytree(bundle / "base", project / "models" / "base")
    shipped = ship(bundle, project / "models" / "small", project)
    assert not shipped.base.included
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        return build_bento(project / "models" / "small", shipped.bundle_hash)


def test_the_built_bento_serves_its_own_bundle_with_its_base(bento, bundle, tmp_path):
    command = [sys.executable, "-m", "bentoml", "serve", bento]
    with (
        Server(command, tmp_path / "log") as running,
        urllib.request.urlopen(f"{running.url}/v1/info", timeout=30) as answer,
    ):
        told = json.loads(answer.read())
    assert told["bundle"] == load_bundle(bundle).bundle_hash
    assert told["version"] is None


def test_the_same_model_is_the_same_bento(bento, bundle):
    assert build_bento(bundle, load_bundle(bundle).bundle_hash) == bento
    listed = subprocess.run(
        [sys.executable, "-m", "bentoml", "list", "-o", "json"], capture_output=True, text=True
    )
    assert sum(entry["tag"] == bento for entry in json.loads(listed.stdout)) == 1


def test_packages_are_pinned_and_none_is_an_orchestrators():
    names = {line.split("==")[0] for line in pinned_packages()}
    assert {"torch", "diffusers", "bentoml"} <= names
    assert not names & {"zenml", "kfp", "dvc", "mlflow", "pytest"}
    assert all("==" in line for line in pinned_packages())


def test_a_build_that_fails_says_what_bentoml_said(bundle, monkeypatch):
    monkeypatch.setattr("serving.build._bentofile", lambda _: {"service": "serving.nowhere:None"})
    with pytest.raises(ModelError, match="bentoml build failed"):
        build_bento(bundle, "f" * 64)
