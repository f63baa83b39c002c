"""The bundle: one folder with all that a released model is, and the hash of every file in it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from tudsr.errors import ModelError
from tudsr.images.atomic import write_json, write_text, writing_dir
from tudsr.profile import PROJECT_ROOT, Profile, UpscaleSettings, dump_profile
from tudsr.provenance import Provenance, file_sha256

FORMAT_VERSION = 1
MANIFEST = "bundle.json"
# A base up to this size travels inside the bundle; a larger one (SD's is 5 GB) is referred to.
INCLUDE_BASE_BYTES = 64 * 2**20
_REQUIRED = (
    "adapter1.safetensors",
    "adapter2.safetensors",
    "profile.yaml",
    "gate.json",
    "MODEL_CARD.md",
)


class BaseReference(BaseModel):
    """Which base the adapters belong to.

    Attributes:
        source: the profile's ``base.source``, or the recipe of a random base.
        files: SHA-256 by path inside the base folder.
        included: whether ``base/`` of the bundle holds it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    files: dict[str, str]
    included: bool


class BundleManifest(BaseModel):
    """Content of ``bundle.json``.

    Attributes:
        bundle_hash: identity of what is served and where it came from: base, adapters, settings,
            and the code, data and seed behind them. Times, the machine, the card and the gate's
            comparison with whatever was champion are left out, so the same model made again is
            the same bundle.
        profile: every setting, resolved.
        metrics: the gate's means and gains.
        files: SHA-256 by path inside the bundle, ``bundle.json`` excepted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int
    model_name: str
    bundle_hash: str
    base: BaseReference
    profile: dict[str, Any]
    provenance: Provenance
    metrics: dict[str, Any]
    files: dict[str, str]

    @property
    def upscale(self) -> UpscaleSettings:
        """How this model enlarges a picture.

        Raises:
            ModelError: settings that this version does not know.
        """
        try:
            return UpscaleSettings.model_validate(self.profile.get("upscale", {}))
        except ValidationError as error:
            names = ", ".join(".".join(map(str, e["loc"])) for e in error.errors())
            raise ModelError(
                f"model {self.model_name} ({self.bundle_hash[:12]}) has settings that this version "
                f"of tudsr does not know ({names}): it was made by a newer one, update tudsr"
            ) from None

    @property
    def arch(self) -> str:
        """Architecture of its base; empty where the profile does not name it."""
        return str(self.profile.get("base", {}).get("arch", ""))


def write_bundle(
    out: Path,
    base_dir: Path,
    adapter1: Path,
    adapter2: Path,
    profile: Profile,
    gate: Mapping[str, Any],
    provenance: Provenance,
    card_text: str,
) -> BundleManifest:
    """Write a bundle atomically; what stood at ``out`` is replaced on success alone.

    ``gate`` is the verdict as JSON (``Verdict.model_dump(mode="json")``).

    Raises:
        ModelError: a base or adapter that is not there.
    """
    base_files = _hashes(base_dir)
    _require(base_files, base_dir, adapter1, adapter2)
    included = sum((base_dir / name).stat().st_size for name in base_files) <= INCLUDE_BASE_BYTES
    with writing_dir(out) as temporary:
        shutil.copyfile(adapter1, temporary / "adapter1.safetensors")
        shutil.copyfile(adapter2, temporary / "adapter2.safetensors")
        write_text(temporary / "profile.yaml", dump_profile(profile))
        write_json(temporary / "gate.json", gate)
        write_text(temporary / "MODEL_CARD.md", card_text)
        for name in base_files if included else ():
            (temporary / "base" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(base_dir / name, temporary / "base" / name)
        base = BaseReference(source=_source(profile), files=base_files, included=included)
        manifest = _manifest(profile, gate, provenance, base, _hashes(temporary))
        write_json(temporary / MANIFEST, manifest.model_dump(mode="json"))
    return manifest


def load_bundle(path: Path, verify: bool = True) -> BundleManifest:
    """Read a bundle's manifest and, unless told otherwise, check every file against it.

    Raises:
        ModelError: no bundle, another format version, a path that leads outside, a file that is
            missing, damaged or not listed, or an altered manifest.
    """
    path = Path(path)
    manifest = _read_manifest(path)
    _check_names(path, manifest)
    if verify:
        for name, expected in manifest.files.items():
            _check_file(path, name, expected)
        _check_identity(path, manifest)
    return manifest


def base_folder(path: Path, manifest: BundleManifest) -> Path:
    """The folder of a bundle's base: inside the bundle, or the one it refers to, checked.

    Raises:
        ModelError: a base that is referred to is not there or is another one.
    """
    if manifest.base.included:
        return path / "base"
    source = Path(manifest.base.source)
    folder = source if source.is_dir() else PROJECT_ROOT / source
    if not folder.is_dir():
        raise ModelError(
            f"{path} needs the base {manifest.base.source!r}, which is no folder here: download it "
            "to that folder in diffusers' layout"
        )
    for name, expected in manifest.base.files.items():
        if not (folder / name).is_file() or file_sha256(folder / name) != expected:
            raise ModelError(
                f"{folder / name} is missing or not the file that {path} was trained on: fetch "
                "the base again, or use the revision that the bundle's profile names"
            )
    return folder


def _require(base_files: Mapping[str, str], base_dir: Path, *adapters: Path) -> None:
    if "unet/config.json" not in base_files:
        raise ModelError(f"{base_dir} is not a base in diffusers' layout: unet/config.json missing")
    for adapter in adapters:
        if not adapter.is_file():
            raise ModelError(f"no adapter at {adapter}: train both stages first")


def _source(profile: Profile) -> str:
    base = profile.base
    if base.random_seed is not None:
        return f"random-{base.arch}-{base.random_seed}"
    return base.source


def _hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below, by relative path in a fixed order; hidden files are left out."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    named = [(p.relative_to(folder), p) for p in files]
    return {
        name.as_posix(): file_sha256(path)
        for name, path in named
        if not any(part.startswith(".") for part in name.parts)
    }


def _manifest(
    profile: Profile,
    gate: Mapping[str, Any],
    provenance: Provenance,
    base: BaseReference,
    files: dict[str, str],
) -> BundleManifest:
    name = profile.registry.model_name
    return BundleManifest(
        format_version=FORMAT_VERSION,
        model_name=name,
        bundle_hash=_identity(name, base, provenance, files),
        base=base,
        profile=profile.model_dump(mode="json"),
        provenance=provenance,
        metrics={key: gate[key] for key in ("perceptual", "gains", "means") if key in gate},
        files=files,
    )


def _identity(
    model_name: str, base: BaseReference, provenance: Provenance, files: Mapping[str, str]
) -> str:
    adapters_and_settings = _REQUIRED[:3]
    identity = {
        "format_version": FORMAT_VERSION,
        "model_name": model_name,
        "base": base.files,
        "files": {name: files[name] for name in adapters_and_settings},
        "made": provenance.model_dump(include={"code", "data", "base", "profile", "seed"}),
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _read_manifest(path: Path) -> BundleManifest:
    try:
        raw = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ModelError(f"{path} is not a bundle: it has no {MANIFEST}") from None
    except (ValueError, OSError) as error:
        raise ModelError(f"{path / MANIFEST} cannot be read: {error}") from None
    version = raw.get("format_version") if isinstance(raw, dict) else None
    if version != FORMAT_VERSION:
        raise ModelError(
            f"{path} has bundle format {version!r}, and this version of tudsr reads "
            f"{FORMAT_VERSION}: use the version of tudsr that wrote it, or package the model again"
        )
    try:
        return BundleManifest.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ModelError(f"{path / MANIFEST} is damaged at {where!r}: {first['msg']}") from None


def _check_names(path: Path, manifest: BundleManifest) -> None:
    """All that must be listed is, and no name leads outside the bundle."""
    for name in (*manifest.files, *manifest.base.files):
        parts = PurePosixPath(name).parts
        if not parts or ".." in parts or PurePosixPath(name).is_absolute() or "\\" in name:
            raise ModelError(f"{path / MANIFEST} names {name!r}, which leads outside the bundle")
    in_base = {f"base/{name}": sha for name, sha in manifest.base.files.items()}
    required = {*_REQUIRED, *(in_base if manifest.base.included else ())}
    missing = sorted(required - manifest.files.keys())
    if missing:
        raise ModelError(f"{path / MANIFEST} does not list {missing[0]!r}: package the model again")
    for name in _unlisted(path, manifest):
        raise ModelError(f"{path / name} is not listed in {MANIFEST}: remove it")


def _unlisted(path: Path, manifest: BundleManifest) -> Iterator[str]:
    """Files below ``base/`` that the manifest does not know: a loader might pick one of them."""
    for file in sorted((path / "base").rglob("*")):
        name = file.relative_to(path).as_posix()
        if not file.is_dir() and name not in manifest.files:
            yield name


def _check_file(path: Path, name: str, expected: str) -> None:
    file = path / name
    if not file.is_file():
        raise ModelError(f"{file} is missing: fetch or package the model again")
    if not file.resolve().is_relative_to(path.resolve()):
        raise ModelError(f"{file} is a link that leads outside the bundle: fetch the model again")
    found = file_sha256(file)
    if found != expected:
        raise ModelError(
            f"{file} is damaged: its SHA-256 is {found[:12]}…, the bundle says {expected[:12]}…. "
            "Fetch or package the model again"
        )


def _check_identity(path: Path, manifest: BundleManifest) -> None:
    base = manifest.base
    same_base = all(manifest.files.get(f"base/{n}") == sha for n, sha in base.files.items())
    identity = _identity(manifest.model_name, base, manifest.provenance, manifest.files)
    if identity != manifest.bundle_hash or (base.included and not same_base):
        raise ModelError(f"{path / MANIFEST} was altered: fetch or package the model again")
