"""A damaged, incomplete or hostile bundle is refused, and the same model is the same bundle."""

import json
import shutil

import pytest

from tests.release.conftest import provenance, verdict
from tudsr.errors import ModelError
from tudsr.profile import load_profile
from tudsr.release import bundle as bundle_module
from tudsr.release.bundle import base_folder, load_bundle


def test_a_bundle_is_read_back_as_it_was_written(parts, tmp_path):
    out = parts.bundle(tmp_path / "b")
    manifest = load_bundle(out)
    assert manifest.model_name == load_profile("smoke").registry.model_name
    assert manifest.upscale == load_profile("smoke").upscale
    assert load_profile(out / "profile.yaml").stage1 == load_profile("smoke").stage1
    assert manifest.metrics["gains"]["x8"] == 0.27
    assert json.loads((out / "gate.json").read_text()) == verdict()
    assert base_folder(out, manifest) == out / "base"
    on_disk = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert on_disk == {"bundle.json", *manifest.files}


def test_the_same_model_made_later_elsewhere_has_the_same_hash(parts, tmp_path):
    first = load_bundle(parts.bundle(tmp_path / "a"))
    later = provenance(created="2027-01-01T00:00:00+00:00", machine="another", commit="f" * 40)
    again = parts.bundle(tmp_path / "b", made=later, gate=verdict("7", False), card="other\n")
    assert load_bundle(again).bundle_hash == first.bundle_hash


@pytest.mark.parametrize("change", ["adapter", "base", "settings", "code", "data", "seed"])
def test_another_model_has_another_hash(parts, tmp_path, change):
    first = load_bundle(parts.bundle(tmp_path / "a"))
    seed, made = 0, provenance()
    if change == "adapter":
        seed = 1
    elif change == "base":
        (parts.base / "scheduler" / "scheduler_config.json").write_text("{}")
    elif change == "settings":
        parts.profile = load_profile("tiny")
    else:
        made = provenance(**{change: 5 if change == "seed" else "e" * 64})
    assert (
        load_bundle(parts.bundle(tmp_path / "b", seed, made=made)).bundle_hash != first.bundle_hash
    )


def test_two_writes_give_the_same_bytes(parts, tmp_path):
    first, second = parts.bundle(tmp_path / "a"), parts.bundle(tmp_path / "b")
    for file in (p for p in first.rglob("*") if p.is_file()):
        assert file.read_bytes() == (second / file.relative_to(first)).read_bytes(), file


def test_every_damaged_or_missing_file_is_named(parts, tmp_path):
    out = parts.bundle(tmp_path / "b")
    for name in load_bundle(out).files:
        file = out / name
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(ModelError, match=f"{file.name} is damaged"):
            load_bundle(out)
        file.unlink()
        with pytest.raises(ModelError, match=f"{file.name} is missing"):
            load_bundle(out)
        file.write_bytes(content)
    assert load_bundle(out, verify=False) == load_bundle(out)


def edit(out, **changes):
    raw = json.loads((out / "bundle.json").read_text())
    (out / "bundle.json").write_text(json.dumps({**raw, **changes}))


def test_an_unknown_format_version_is_refused_before_anything_else(parts, tmp_path):
    out = parts.bundle(tmp_path / "b")
    (out / "bundle.json").write_text('{"format_version": 2, "new": "things"}')
    with pytest.raises(ModelError, match=r"format 2.*reads 1"):
        load_bundle(out)


def test_settings_of_a_newer_version_are_named_in_a_sentence(parts, tmp_path):
    manifest = load_bundle(parts.bundle(tmp_path / "b"))
    newer = {**manifest.profile, "upscale": {"tile_px": 64, "sharper": True}}
    with pytest.raises(ModelError, match=r"does not know \(sharper\).*update tudsr"):
        _ = manifest.model_copy(update={"profile": newer}).upscale


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "base/../../x", "a\\..\\b", ""])
def test_a_name_that_leads_outside_is_refused(parts, tmp_path, name):
    out = parts.bundle(tmp_path / "b")
    edit(out, files={**load_bundle(out).files, name: "0" * 64})
    with pytest.raises(ModelError, match="leads outside"):
        load_bundle(out, verify=False)


def test_a_link_that_leads_outside_is_refused(parts, tmp_path):
    out = parts.bundle(tmp_path / "b")
    moved = shutil.move(out / "adapter1.safetensors", tmp_path / "elsewhere")
    (out / "adapter1.safetensors").symlink_to(moved)
    with pytest.raises(ModelError, match="link that leads outside"):
        load_bundle(out)


def test_an_unlisted_file_in_the_base_is_refused(parts, tmp_path):
    out = parts.bundle(tmp_path / "b")
    (out / "base" / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"\x80")
    with pytest.raises(ModelError, match=r"model.bin is not listed"):
        load_bundle(out)


def test_an_altered_manifest_is_refused(parts, tmp_path):
    out = parts.bundle(tmp_path / "b")
    edit(out, bundle_hash="0" * 64)
    with pytest.raises(ModelError, match="was altered"):
        load_bundle(out)


@pytest.mark.parametrize("content", [None, "", "[]", "{", '{"format_version": 1}'])
def test_what_is_no_bundle_is_called_so(tmp_path, content):
    (tmp_path / "b").mkdir()
    if content is not None:
        (tmp_path / "b" / "bundle.json").write_text(content)
    with pytest.raises(ModelError, match=r"bundle"):
        load_bundle(tmp_path / "b")


def test_a_file_that_is_not_listed_but_needed_is_missed(parts, tmp_path):
    out = parts.bundle(tmp_path / "b")
    files = load_bundle(out).files
    del files["adapter2.safetensors"]
    edit(out, files=files)
    with pytest.raises(ModelError, match=r"does not list 'adapter2\.safetensors'"):
        load_bundle(out)


def test_a_large_base_is_referred_to_and_checked(parts, tmp_path, monkeypatch):
    monkeypatch.setattr(bundle_module, "INCLUDE_BASE_BYTES", 10)
    sd = parts.profile.base.model_copy(update={"source": str(parts.base), "random_seed": None})
    parts.profile = parts.profile.model_copy(update={"base": sd})
    out = parts.bundle(tmp_path / "b")
    manifest = load_bundle(out)
    assert not manifest.base.included and not (out / "base").exists()
    assert base_folder(out, manifest) == parts.base
    (parts.base / "vae" / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"vae/config.json is missing or not the file"):
        base_folder(out, manifest)
    shutil.rmtree(parts.base)
    with pytest.raises(ModelError, match="no folder here"):
        base_folder(out, manifest)


def test_a_missing_part_leaves_what_was_there(parts, tmp_path):
    out = parts.bundle(tmp_path / "b")
    before = load_bundle(out)
    shutil.rmtree(parts.base / "unet")
    with pytest.raises(ModelError, match="not a base"):
        parts.bundle(out, seed=3)
    assert load_bundle(out) == before
