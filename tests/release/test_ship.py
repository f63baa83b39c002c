"""The model that comes with the repository: its base is not stored twice, and it is small."""

import shutil

import pytest

from tudsr.errors import ModelError
from tudsr.release import ship as ship_module
from tudsr.release.bundle import base_folder, load_bundle
from tudsr.release.ship import ship


@pytest.fixture
def project(parts, tmp_path):
    """A project whose base is the one that bundles of ``parts`` have."""
    folder = tmp_path / "project"
    shutil.copytree(parts.base, folder / "models" / "base")
    return folder


def test_the_projects_own_base_is_referred_to(parts, project, tmp_path, monkeypatch):
    bundle = parts.bundle(tmp_path / "bundle")
    shipped = ship(bundle, project / "models" / "small", project)
    assert shipped.bundle_hash == load_bundle(bundle).bundle_hash
    assert not (project / "models" / "small" / "base").exists()
    monkeypatch.chdir(project)
    manifest = load_bundle(project / "models" / "small")
    base = base_folder(project / "models" / "small", manifest)
    assert base.resolve() == project / "models" / "base"


def test_another_base_travels_along(parts, project, tmp_path):
    bundle = parts.bundle(tmp_path / "bundle")
    (project / "models" / "base" / "vae" / "config.json").write_text("{}")
    out = project / "models" / "small"
    assert ship(bundle, out, project).base.included
    assert base_folder(out, load_bundle(out)) == out / "base"


def test_what_was_shipped_before_is_replaced_and_kept_on_failure(
    parts, project, tmp_path, monkeypatch
):
    out = project / "models" / "small"
    first = ship(parts.bundle(tmp_path / "a"), out, project)
    second = ship(parts.bundle(tmp_path / "b", seed=1), out, project)
    assert load_bundle(out).bundle_hash == second.bundle_hash != first.bundle_hash
    monkeypatch.setattr(ship_module, "MAX_BYTES", 100)
    with pytest.raises(ModelError, match="at most"):
        ship(parts.bundle(tmp_path / "c", seed=2), out, project)
    assert load_bundle(out).bundle_hash == second.bundle_hash
