"""The CPU form of a bundle: its stages as OpenVINO graphs, made once and kept by the bundle's hash.

Four graphs, adapters merged, timestep and prompt folded into constants: ``encode`` (pictures to
latents), ``stage1`` and ``stage2`` (latents to the correction of latents, with that of the learned
decoder) and ``decode`` (pictures and that correction to pictures). Derived from the bundle alone,
never released or committed.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from tudsr.errors import ModelError
from tudsr.model.base_files import read_config
from tudsr.places import forms_dir
from tudsr.provenance import file_sha256
from tudsr.release.bundle import BundleManifest

# Raise it when the export changes: older forms are then made anew.
FORM_VERSION = 1
GRAPHS = ("encode", "stage1", "stage2", "decode")
_RECORD = "form.json"


class FormRecord(BaseModel):
    """Content of ``form.json``.

    Attributes:
        bundle_hash: the bundle it was made from.
        size_multiple: sides of a tile must be multiples of this many pixels.
        files: SHA-256 by name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle_hash: str
    size_multiple: int
    files: dict[str, str]


def quiet_openvino() -> Any:
    """The package without its telemetry, which reports conversions to its makers unless refused,
    and without its converter, two thirds of the time that importing it takes."""
    modules = cast("dict[str, ModuleType | None]", sys.modules)
    modules.setdefault("openvino_telemetry", None)
    converter = "openvino.tools.ovc"
    hidden = converter not in modules
    if hidden:
        modules[converter] = None
    try:
        import openvino
    finally:
        if hidden:
            del modules[converter]
    return openvino


def form_folder(bundle: BundleManifest) -> Path:
    """Where the form of a bundle is, or will be."""
    return forms_dir() / f"{bundle.bundle_hash[:32]}-{FORM_VERSION}"


def can_have_form(base: Path) -> bool:
    """Whether a base is one of ours, whose codec is a transform, and OpenVINO is installed.

    Stable Diffusion's stays with torch: it is meant for GPUs.
    """
    if find_spec("openvino") is None or not (base / "base.json").is_file():
        return False
    lapped = read_config(base / "vae" / "config.json").get("_class_name") == "LappedCodec"
    return lapped and bool(read_config(base / "base.json").get("preconditioned"))


def load_form(folder: Path, bundle: BundleManifest) -> FormRecord:
    """The record of a form, every file checked.

    Raises:
        ModelError: a file that is missing or damaged, or the form of another bundle.
    """
    remedy = f"remove {folder}, it is made anew"
    try:
        text = (folder / _RECORD).read_text(encoding="utf-8")
        record = FormRecord.model_validate_json(text)
    except (OSError, ValidationError) as error:
        raise ModelError(f"{folder / _RECORD} cannot be read ({error}): {remedy}") from None
    if record.bundle_hash != bundle.bundle_hash:
        raise ModelError(f"{folder} belongs to bundle {record.bundle_hash[:12]}…: {remedy}")
    for name in (f"{graph}.{end}" for graph in GRAPHS for end in ("xml", "bin")):
        file = folder / name
        if not file.is_file() or file_sha256(file) != record.files.get(name):
            raise ModelError(f"{file} is missing or damaged: {remedy}")
    return record
