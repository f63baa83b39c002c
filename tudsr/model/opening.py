"""Opening a released model with the runtime that suits the machine."""

from __future__ import annotations

import logging
from pathlib import Path

from tudsr.errors import SettingsError
from tudsr.model.cpu_form import can_have_form, form_folder
from tudsr.release.bundle import base_folder, load_bundle
from tudsr.upscale.runtime import TileRuntime
from tudsr.upscale.side_by_side import MOST_SIDE_BY_SIDE

_log = logging.getLogger("tudsr")


def open_runtime(
    bundle: Path,
    device: str = "auto",
    precision: str = "auto",
    runtime: str = "auto",
    seed: int | None = None,
    memory_bytes: int | None = None,
    side_by_side: int = MOST_SIDE_BY_SIDE,
) -> TileRuntime:
    """The runtime of a released bundle; every hash is checked.

    On a CPU that is OpenVINO, without torch, for the bundles that have such a form; it is made the
    first time and kept (``tudsr.model.cpu_form``). Else, and for ``runtime="torch"``, it is torch.
    ``seed`` and ``memory_bytes`` are torch's alone: a codec of ours has nothing to draw and takes
    next to nothing. ``side_by_side`` is OpenVINO's: at most so many tiles are in the model at once.

    Raises:
        ModelError: a bundle or form that is missing or damaged.
        SettingsError: ``openvino`` where it cannot run this model.
    """
    manifest = load_bundle(bundle)
    windows = manifest.upscale.window_px > 0
    possible = can_have_form(base_folder(bundle, manifest)) and not windows
    if runtime == "openvino" and not (possible and device in ("auto", "cpu")):
        raise SettingsError(
            "runtime openvino needs device cpu, the package openvino, a small base (Stable "
            "Diffusion's runs on torch alone) and no upscale.window_px: use runtime torch"
        )
    if runtime == "torch" or not possible or (runtime == "auto" and not on_cpu(device)):
        return _torch(bundle, device, precision, seed, memory_bytes)
    folder = form_folder(manifest)
    if not folder.is_dir():
        from tudsr.model.cpu_export import make_form

        _log.warning("making the CPU form of model %s, once", manifest.bundle_hash[:12])
        try:
            make_form(bundle)
        except OSError as error:
            if runtime == "openvino":
                raise
            _log.warning("it cannot be kept (%s): torch runs the model; set TUDSR_FORMS", error)
            return _torch(bundle, device, precision, seed, memory_bytes)
    from tudsr.model.cpu_runtime import CpuRuntime

    return CpuRuntime(folder, manifest, precision, side_by_side)


def _torch(
    bundle: Path, device: str, precision: str, seed: int | None, memory_bytes: int | None
) -> TileRuntime:
    from tudsr.model.runtime import load_runtime

    return load_runtime(bundle, device, precision, seed, memory_bytes)


def on_cpu(device: str) -> bool:
    """Whether ``device`` means the CPU here; imports torch only where a GPU can be.

    That is where a driver's device file is, or on a Mac.
    """
    if device != "auto":
        return device == "cpu"
    import sys

    if sys.platform == "darwin" or any(Path("/dev").glob("nvidia[0-9]*")):
        from tudsr.profile import RuntimeSettings
        from tudsr.train.device import pick_device

        return pick_device(RuntimeSettings()).type == "cpu"
    return True
