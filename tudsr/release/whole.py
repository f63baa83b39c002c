"""A bundle with its base, for a place where the project's folders are not."""

from __future__ import annotations

import shutil
from pathlib import Path

from tudsr.images.atomic import write_json, writing_dir
from tudsr.release.bundle import (
    INCLUDE_BASE_BYTES,
    MANIFEST,
    BundleManifest,
    base_folder,
    load_bundle,
)


def copy_whole(bundle: Path, out: Path) -> BundleManifest:
    """Copy a bundle to ``out``, with the base it refers to inside; the bundle's hash stays.

    As in every bundle, a base above 64 MiB (Stable Diffusion's) stays a reference. What stood at
    ``out`` is replaced on success alone.

    Raises:
        ModelError: no intact bundle, or a base that is not there or another one.
    """
    manifest = load_bundle(bundle)
    base = base_folder(bundle, manifest)
    size = sum((base / name).stat().st_size for name in manifest.base.files)
    with writing_dir(out) as temporary:
        for name in manifest.files:
            _copy(bundle / name, temporary / name)
        if not manifest.base.included and size <= INCLUDE_BASE_BYTES:
            for name in manifest.base.files:
                _copy(base / name, temporary / "base" / name)
            manifest = _with_base(manifest)
        write_json(temporary / MANIFEST, manifest.model_dump(mode="json"))
    return manifest


def _with_base(manifest: BundleManifest) -> BundleManifest:
    inside = {f"base/{name}": sha for name, sha in manifest.base.files.items()}
    reference = manifest.base.model_copy(update={"included": True})
    return manifest.model_copy(update={"files": {**manifest.files, **inside}, "base": reference})


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
