"""``tudsr images``: commands that are printed, digests that are recorded."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from deploy.commands import images
from deploy.images import IMAGES, K8S, record, recorded
from pipelines.kubeflow.inputs import tracked
from tudsr.errors import SettingsError

ROOT = Path(__file__).resolve().parents[2]
DIGEST = "sha256:" + "ab" * 32


@pytest.fixture
def own(tmp_path):
    (tmp_path / "k8s").mkdir()
    return Path(shutil.copytree(K8S / "images", tmp_path / "k8s" / "images")).parent


def run(*arguments):
    app = typer.Typer()
    app.command()(images)
    result = CliRunner().invoke(app, list(arguments))
    if result.exception:
        raise result.exception
    return result.output


def test_it_prints_how_each_image_is_built_with_the_bases_digest(own):
    told = run("--k8s", str(own), "--registry", "ghcr.io/ada")
    for image in IMAGES:
        assert f"tudsr images --set {image.name}=" in told
        if image.dockerfile:
            assert f"-f {image.dockerfile} -t ghcr.io/ada/tudsr-{image.name}:build" in told
            assert (ROOT / image.dockerfile).is_file()
    assert 'BASE="$BASE"' in told and "no digest recorded" in told


def test_a_digest_is_recorded_beside_those_that_are_there(own):
    run("--k8s", str(own), "--set", f"serve=ghcr.io/ada/tudsr-serve@{DIGEST}")
    run("--k8s", str(own), "--set", f"train=registry.example:5000/train:build@{DIGEST}")
    assert recorded("serve", own) == f"ghcr.io/ada/tudsr-serve@{DIGEST}"
    assert recorded("train", own) == f"registry.example:5000/train@{DIGEST}"
    assert f"# serve: ghcr.io/ada/tudsr-serve@{DIGEST}" in run("--k8s", str(own))


@pytest.mark.parametrize(
    "given",
    ["serve=ghcr.io/ada/serve:1.0", "serve=ghcr.io/ada/serve@sha256:abc", "serve=", "serve"],
)
def test_an_image_without_its_digest_is_refused(own, given):
    before = (own / "images" / "kustomization.yaml").read_bytes()
    with pytest.raises(SettingsError, match="has no digest"):
        record([f"train=x@{DIGEST}", given], own)
    assert (own / "images" / "kustomization.yaml").read_bytes() == before


def test_an_unknown_image_is_refused(own):
    with pytest.raises(SettingsError, match="no image 'server'; there are train, serve"):
        record([f"server=x@{DIGEST}"], own)


def test_an_image_that_was_not_recorded_is_refused_with_the_command(own):
    with pytest.raises(SettingsError, match="tudsr images --set train="):
        recorded("train", own)


def test_kubeflow_compiles_nothing_without_a_recorded_image(tmp_path):
    from pipelines.kubeflow.commands import app

    out = tmp_path / "pipeline.yaml"
    result = CliRunner().invoke(app, ["compile", "--profile", "smoke", "-o", str(out)])
    assert isinstance(result.exception, SettingsError) and not out.exists()
    assert "image train has no digest" in str(result.exception)


def test_no_digest_is_committed_that_no_registry_gave():
    """Nothing was built where this project is developed."""
    assert "sha256:" not in (K8S / "images" / "kustomization.yaml").read_text()


@pytest.mark.parametrize("name", [i.name for i in IMAGES if i.dockerfile])
def test_a_base_without_digest_stops_the_build(name):
    """The Dockerfile's own first command, run as the build would run it."""
    text = (K8S / "images" / f"{name}.Dockerfile").read_text()
    command = text.partition("\nRUN ")[2].partition("\nRUN ")[0].replace("\\\n", "\n")

    def run_with(base):
        return subprocess.run(["sh", "-ec", command], env={"BASE": base}, capture_output=True)

    assert run_with(f"python:3.12-slim@{DIGEST}").returncode == 0
    for base in ("python:3.12-slim", "python@sha256:abc", ""):
        assert run_with(base).returncode == 1


@pytest.mark.parametrize("name", [i.name for i in IMAGES if i.dockerfile])
def test_an_image_copies_files_that_there_are_and_is_not_root(name):
    lines = (K8S / "images" / f"{name}.Dockerfile").read_text().splitlines()
    for line in lines:
        if line.startswith("COPY "):
            for source in line.split()[1:-1]:
                assert list(ROOT.glob(source)), f"{source} is not there"
    assert "USER 1000:1000" in lines
    text = "\n".join(lines)
    assert "-c constraints.txt" in text or "-c /tmp/constraints.txt" in text


def test_a_step_may_put_what_it_fetches_where_the_image_has_the_code():
    """In the pod, `fetch_inputs` makes `data` and `models/*` as user 1000."""
    text = (K8S / "images" / "train.Dockerfile").read_text().replace("\\\n", "")
    lines = text.splitlines()
    (place,) = [i for i, line in enumerate(lines) if "chown tudsr:tudsr" in line]
    owned = lines[place].partition("chown tudsr:tudsr")[2].split()
    assert {str((Path("/app") / out.path).parent) for out in tracked(ROOT)} <= set(owned)
    assert text.split("TUDSR_OUTPUTS=")[1].split()[0] in owned, (
        "a step without a claim writes there"
    )
    copied = [i for i, line in enumerate(lines) if line.startswith(("COPY", "WORKDIR"))]
    assert max(copied) < place < lines.index("USER 1000:1000")


def test_nothing_that_an_image_copies_is_kept_from_the_build():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for file in (K8S / "images").glob("*.Dockerfile"):
        for line in file.read_text().splitlines():
            if line.startswith("COPY "):
                assert not {source.split("/")[0] for source in line.split()[1:-1]} & set(ignored)
