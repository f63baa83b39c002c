"""Making a bundle the model that comes with the repository."""

from __future__ import annotations

import shutil
from pathlib import Path

from tudsr.errors import ModelError
from tudsr.images.atomic import write_json, writing_dir
from tudsr.profile import PROJECT_ROOT
from tudsr.provenance import file_sha256
from tudsr.release.bundle import MANIFEST, BundleManifest, base_folder, load_bundle
from tudsr.release.locate import SHIPPED

# What a clone fetches for the model, its base included, at most.
MAX_BYTES = 25_000_000
BASE = "models/base"


def ship(bundle: Path, out: Path = SHIPPED, project: Path = PROJECT_ROOT) -> BundleManifest:
    """Copy a bundle to ``out``; what stood there is replaced on success alone.

    A base that is the project's own, file by file, is referred to and not stored twice; the
    bundle's hash stays what it was.

    Raises:
        ModelError: no intact bundle, or more than 25 MB with the base.
    """
    manifest = load_bundle(bundle)
    base = base_folder(bundle, manifest)
    names = [name for name in manifest.files if not name.startswith("base/")]
    _check_size([bundle / name for name in names] + [base / name for name in manifest.base.files])
    own = _is_same(project / BASE, manifest.base.files)
    if own:
        kept = {name: manifest.files[name] for name in names}
        reference = manifest.base.model_copy(update={"source": BASE, "included": False})
        shipped = manifest.model_copy(update={"files": kept, "base": reference})
    elif manifest.base.included:
        shipped = manifest
    else:
        raise ModelError(
            f"{bundle} refers to {manifest.base.source}, and {project / BASE} is another base: "
            "copy the one it was trained on there first"
        )
    with writing_dir(out) as temporary:
        for name in shipped.files:
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle / name, temporary / name)
        write_json(temporary / MANIFEST, shipped.model_dump(mode="json"))
    return shipped


def _is_same(base: Path, files: dict[str, str]) -> bool:
    return all((base / n).is_file() and file_sha256(base / n) == sha for n, sha in files.items())


def _check_size(files: list[Path]) -> None:
    size = sum(file.stat().st_size for file in files)
    if size > MAX_BYTES:
        raise ModelError(
            f"the model has {size / 1e6:.1f} MB with its base, and a clone should fetch at most "
            f"{MAX_BYTES / 1e6:.0f} MB: use a lower rank (stage1.lora.rank), or a base in bf16"
        )
