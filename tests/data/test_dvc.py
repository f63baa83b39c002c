"""The data's versioning as a fresh clone meets it: pull, repro, change, repro."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tudsr.data.photos import data_version

pytest.importorskip("dvc")
pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("tudsr", "configs", "dvcstore", "dvc.yaml", "dvc.lock", "data.dvc", ".dvcignore")


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """What git would bring: code, settings, locks and DVC's remote, but no data and no outputs."""
    root = tmp_path_factory.mktemp("clone")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, root / name)
    (root / ".dvc").mkdir()
    for name in ("config", ".gitignore"):
        shutil.copy(ROOT / ".dvc" / name, root / ".dvc" / name)
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    run(root, "dvc", "pull", "-q")
    return root


def run(root, *command):
    """Run in the clone, with its own code first on the path."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(root)}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def redone(output):
    """Names of the stages that a `dvc repro` ran."""
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


def change_profile(root, section, **values):
    path = root / "configs" / "profiles" / "tiny.yaml"
    profile = yaml.safe_load(path.read_text())
    profile.setdefault(section, {}).update(values)
    path.write_text(yaml.safe_dump(profile))


def test_the_pulled_folder_is_the_recorded_version(clone):
    recorded = yaml.safe_load((clone / "data.dvc").read_text())["outs"][0]["md5"]
    assert data_version(clone / "data") == recorded
    assert len(list((clone / "data").rglob("*.webp"))) == 43


def test_repro_redoes_just_what_a_setting_touches(clone):
    assert redone(run(clone, "dvc", "repro")) == []
    change_profile(clone, "gate", max_psnr_loss_db=2.0)
    assert redone(run(clone, "dvc", "repro")) == ["settings"]
    change_profile(clone, "pairs", crops_per_photo=1)
    assert redone(run(clone, "dvc", "repro")) == ["settings", "pairs"]
    assert len(list((clone / "outputs" / "data" / "pairs" / "test" / "x8").iterdir())) == 6
    change_profile(clone, "data", max_noise=24.0)
    assert redone(run(clone, "dvc", "repro")) == ["settings", "validate"]


_IN_TURN = """
import shlex, sys
from dvc.cli import main
for command in sys.argv[1:]:
    code = main(shlex.split(command)[1:])
    assert code == 0, command
"""


def test_shipping_cleans_the_repositorys_store_and_no_other_remote(tmp_path):
    """The README says how S3 becomes the default remote: what is there is the user's own."""
    root, bucket = tmp_path / "project", tmp_path / "bucket"
    shutil.copytree(ROOT / ".dvc", root / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    for name in ("base", "small"):
        (root / "models" / name).mkdir(parents=True)
        (root / "models" / name / "file").write_text(name)
    other = f"files/md5/aa/{'b' * 30}"  # of another commit, say
    for store in (bucket, root / "dvcstore"):
        (store / other).parent.mkdir(parents=True)
        (store / other).write_text("an earlier model")
    recipe = (ROOT / "Makefile").read_text().partition("\nship:")[2].partition("\n\n")[0]
    commands = [line.strip() for line in recipe.splitlines() if line.startswith("\tdvc ")]
    moved = f"dvc remote add -d s3 {bucket}"
    run(root, sys.executable, "-c", _IN_TURN, moved, *commands)
    for store, kept in ((bucket, {"an earlier model"}), (root / "dvcstore", set())):
        files = [file for file in store.rglob("*") if file.is_file() and file.suffix != ".dir"]
        assert {file.read_text() for file in files} == {"base", "small"} | kept
