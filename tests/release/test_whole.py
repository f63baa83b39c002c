"""A bundle copied with its base: nothing outside of the copy is needed."""

import shutil

import pytest

from tudsr.errors import ModelError
from tudsr.release import whole
from tudsr.release.bundle import base_folder, load_bundle
from tudsr.release.ship import ship
from tudsr.release.whole import copy_whole


@pytest.fixture
def shipped(parts, tmp_path, monkeypatch):
    """A bundle that refers to ``models/base``, in the project that has it."""
    project = tmp_path / "project"
    shutil.copytree(parts.base, project / "models" / "base")
    ship(parts.bundle(tmp_path / "bundle"), project / "models" / "small", project)
    monkeypatch.chdir(project)
    return project / "models" / "small"


def test_the_copy_has_the_base_and_the_same_hash(shipped, tmp_path):
    copied = copy_whole(shipped, tmp_path / "out")
    shutil.rmtree(shipped.parent)
    manifest = load_bundle(tmp_path / "out")
    assert manifest == copied
    assert manifest.base.included
    assert base_folder(tmp_path / "out", manifest) == tmp_path / "out" / "base"


def test_a_bundle_with_its_base_is_copied_as_it_is(parts, tmp_path):
    bundle = parts.bundle(tmp_path / "bundle")
    assert copy_whole(bundle, tmp_path / "out") == load_bundle(bundle)
    assert load_bundle(tmp_path / "out") == load_bundle(bundle)


def test_a_large_base_stays_a_reference(shipped, tmp_path, monkeypatch):
    monkeypatch.setattr(whole, "INCLUDE_BASE_BYTES", 100)
    assert not copy_whole(shipped, tmp_path / "out").base.included
    assert not (tmp_path / "out" / "base").exists()


def test_a_base_that_is_gone_is_told_of(shipped, tmp_path):
    (shipped.parent / "base" / "prompt.safetensors").unlink()
    with pytest.raises(ModelError, match=r"prompt\.safetensors"):
        copy_whole(shipped, tmp_path / "out")
    assert not (tmp_path / "out").exists()
