"""Photographs and models fetched by hash into a folder that holds only the code."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import yaml

from pipelines.kubeflow.inputs import fetch_inputs, remote_url, require_versions, tracked
from tudsr.data.photos import data_version
from tudsr.errors import DataError
from tudsr.model.version import base_version
from tudsr.profile import BaseSettings, load_profile

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def code(tmp_path, monkeypatch):
    """What an image holds: ``.dvc`` files and no data; the remote is named by the environment."""
    root = tmp_path / "app"
    (root / "models").mkdir(parents=True)
    shutil.copy(ROOT / "data.dvc", root)
    shutil.copy(ROOT / "models" / "base.dvc", root / "models")
    monkeypatch.setenv("TUDSR_DVC_REMOTE", str(ROOT / "dvcstore"))
    return root


def write(store, content, suffix=""):
    """Put content where DVC keeps it; a listing's name ends in ``.dir``."""
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest() + suffix
    file = store / "files" / "md5" / md5[:2] / md5[2:]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return md5, file


@pytest.fixture
def small(tmp_path):
    """A project of one photograph and its remote."""
    root, store = tmp_path / "project", tmp_path / "store"
    (root / ".dvc").mkdir(parents=True)
    config = "[core]\n    remote = main\n['remote \"main\"']\n    url = ../../store\n"
    (root / ".dvc" / "config").write_text(config, "utf-8")
    photo, _ = write(store, b"a photograph")
    listing, _ = write(
        store, json.dumps([{"md5": photo, "relpath": "train/a.png"}]).encode(), ".dir"
    )
    out = {"outs": [{"md5": listing, "path": "data"}]}
    (root / "data.dvc").write_text(yaml.safe_dump(out), "utf-8")
    return root, store


def test_the_photographs_and_the_base_are_those_that_git_names(code, tmp_path):
    profile = load_profile("tiny")
    store = tmp_path / "volume"
    assert fetch_inputs({"profile": profile}, code, store) == ["data", "models/base"]
    recorded = yaml.safe_load((ROOT / "data.dvc").read_text("utf-8"))["outs"][0]["md5"]
    assert data_version(code / "data") == recorded
    fetched = BaseSettings(source=str(code / "models" / "base"), arch="small")
    assert base_version(fetched) == base_version(
        BaseSettings(source=str(ROOT / "models" / "base"), arch="small")
    )


def test_what_is_on_the_volume_is_linked_and_not_fetched_again(small, tmp_path):
    root, store = small
    volume = tmp_path / "volume"
    assert fetch_inputs({"settings": {"root": "data"}}, root, volume) == ["data"]
    shutil.rmtree(store)
    (root / "data").unlink()
    assert fetch_inputs({"settings": {"root": "data"}}, root, volume) == ["data"]
    assert (root / "data" / "train" / "a.png").read_bytes() == b"a photograph"
    assert fetch_inputs({"settings": {"root": "data"}}, root, volume) == []


def test_only_what_a_step_names_is_fetched(small):
    root, _ = small
    assert fetch_inputs({"settings": {"root": "elsewhere"}}, root) == []
    assert not (root / "data").exists()


def test_the_shipped_model_is_fetched_when_the_gate_compares_with_it(small):
    root, store = small
    md5, _ = write(store, b"weights")
    (root / "models").mkdir()
    for name in ("base", "small"):  # the shipped bundle refers to its base
        (root / "models" / f"{name}.dvc").write_text(
            yaml.safe_dump({"outs": [{"md5": md5, "path": name}]}), "utf-8"
        )
    assert [out.path for out in tracked(root)] == ["data", "models/base", "models/small"]
    fetched = fetch_inputs({"champion_version": "shipped-0123456789ab"}, root)
    assert fetched == ["models/base", "models/small"]


def test_the_environment_names_another_remote(small, monkeypatch):
    root, store = small
    assert remote_url(root) == str(store)
    monkeypatch.setenv("TUDSR_DVC_REMOTE", "s3://bucket/dvc")
    assert remote_url(root) == "s3://bucket/dvc"


def test_other_content_under_a_hash_is_refused_and_nothing_stays(small):
    root, store = small
    _, file = write(store, b"a photograph")
    file.write_bytes(b"another one")
    with pytest.raises(DataError, match="holds other content"):
        fetch_inputs({"settings": {"root": "data"}}, root)
    assert sorted(p.name for p in root.iterdir()) == [".dvc", "data.dvc"]


def test_a_listing_cannot_lead_out_of_its_folder(small):
    root, store = small
    photo, _ = write(store, b"x")
    listing, _ = write(
        store, json.dumps([{"md5": photo, "relpath": "../../evil"}]).encode(), ".dir"
    )
    (root / "data.dvc").write_text(
        yaml.safe_dump({"outs": [{"md5": listing, "path": "data"}]}), "utf-8"
    )
    with pytest.raises(DataError, match="outside of it"):
        fetch_inputs({"settings": {"root": "data"}}, root)


def test_a_remote_without_the_file_says_how_to_fill_it(small):
    root, store = small
    shutil.rmtree(store)
    with pytest.raises(DataError, match=r"dvc push"):
        fetch_inputs({"settings": {"root": "data"}}, root)


def test_no_remote_at_all(small, monkeypatch):
    root, _ = small
    (root / ".dvc" / "config").unlink()
    monkeypatch.delenv("TUDSR_DVC_REMOTE", raising=False)
    with pytest.raises(DataError, match="TUDSR_DVC_REMOTE"):
        fetch_inputs({"settings": {"root": "data"}}, root)


def test_other_photographs_or_another_base_than_the_run_was_started_with_are_refused(
    small, monkeypatch
):
    """An old image has old `.dvc` files: lineage would tell of what was not trained on."""
    root, _ = small
    fetch_inputs({"settings": {"root": "data"}}, root)
    (root / "models" / "base").mkdir(parents=True)
    (root / "models" / "base" / "base.json").write_text("{}")
    monkeypatch.chdir(root)
    profile = load_profile("tiny")
    versions = {"data_version": data_version(root / "data")}
    versions["base_version"] = base_version(profile.base)
    as_json = {"profile": profile.model_dump(mode="json"), **versions}
    assert require_versions(as_json) == ["data", "models/base"]
    only_data = {"settings": profile.data, "data_version": versions["data_version"]}
    assert require_versions(only_data) == ["data"]
    assert require_versions({"settings": profile.registry}) == []
    for name, place in (("data_version", "data"), ("base_version", "models/base")):
        said = f"{place} is {versions[name]} in this pod, .* with another:.*rebuild the image"
        with pytest.raises(DataError, match=said):
            require_versions({"profile": profile, **versions, name: "another"})
    with pytest.raises(DataError, match="started with another"):
        require_versions({**only_data, "data_version": "another"})
    (root / "models" / "base" / "base.json").write_text("{ }")
    started = profile.pretrain.model_copy(update={"start": "models/base"})
    given = {"profile": profile.model_copy(update={"pretrain": started})}
    with pytest.raises(DataError, match="models/base is"):
        require_versions(given | {"start_version": versions["base_version"]})
