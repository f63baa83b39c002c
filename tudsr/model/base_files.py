"""The files of a base's folder: what ``base.json`` records of them, and what is wrong with them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tudsr.errors import ModelError
from tudsr.profile import BaseSettings
from tudsr.provenance import file_sha256

if TYPE_CHECKING:
    from torch import Tensor


def base_info(folder: Path) -> dict[str, Any]:
    """Content of ``base.json``, empty where there is none."""
    return read_config(folder / "base.json") if (folder / "base.json").is_file() else {}


def read_config(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        ModelError: no such file, or something else in it.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds no JSON object")
    return cast("dict[str, Any]", content)


def check_prediction(scheduler_config: Mapping[str, Any], where: str) -> None:
    """Refuse a base whose UNet does not predict epsilon.

    Raises:
        ModelError: with the reason and the remedy.
    """
    kind = scheduler_config.get("prediction_type", "epsilon")
    if kind != "epsilon":
        raise ModelError(
            f"{where} predicts {kind!r}, but the one-step formula needs 'epsilon' (it takes the "
            "UNet's output for noise): use SD2.1-base (512), not SD2.1 (768)"
        )


def check_expected(folder: Path, settings: BaseSettings) -> None:
    """Hold what ``base.json`` records against the profile; what it does not record passes.

    Raises:
        ModelError: another architecture, revision or prompt.
    """
    info = base_info(folder)
    arch, revision, prompt = info.get("arch"), info.get("revision"), info.get("prompt", "")
    if arch is not None and settings.arch not in (arch, "any"):
        raise ModelError(
            f"the base at {folder} is {arch!r}, the profile's base.arch is {settings.arch!r}: set "
            "base.source to the right folder, or base.arch to what it is"
        )
    if settings.revision is not None and revision != settings.revision:
        raise ModelError(
            f"the base at {folder} is of revision {revision or 'unknown'}, the profile asks for "
            f"{settings.revision}: import that one with `tudsr base import SOURCE {folder} "
            f"--revision {settings.revision}`"
        )
    if prompt != settings.prompt:
        raise ModelError(
            f"the base at {folder} holds the embedding of the prompt {prompt!r}, the profile's is "
            f"{settings.prompt!r}: import it again with --prompt, or change base.prompt"
        )


def save_prompt(prompt: Tensor, folder: Path) -> None:
    """Write the (1, L, D) prompt embedding to its place in a base's folder."""
    from safetensors.torch import save_file

    save_file({"prompt": prompt.float().contiguous()}, folder / "prompt.safetensors")


def file_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, by relative path in a fixed order."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): file_sha256(p) for p in files}


def base_hash(info: Mapping[str, Any], folder: Path | None = None) -> str | None:
    """One SHA-256 of what decides a base's results; when and from where it came does not.

    That is its files and how the UNet's output is read, of ``base.json``'s content. Where that
    lists no files they are those of ``folder``; None without one.
    """
    files = info.get("files") or (folder and file_hashes(folder))
    if not files:
        return None
    decisive = [sorted(files.items()), bool(info.get("preconditioned"))]
    return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()


def check_files(folder: Path, hashes: Mapping[str, str]) -> None:
    """Hold files against the SHA-256 that ``base.json`` records.

    Raises:
        ModelError: a file that is missing or another one.
    """
    for name, expected in hashes.items():
        _check_file(folder / name, expected)


def _check_file(path: Path, expected: str) -> None:
    if not path.is_file():
        raise ModelError(
            f"{path} is missing or damaged: there is no such file. Run `dvc pull`, or import the "
            "base again"
        )
    found = file_sha256(path)
    if found != expected:
        raise ModelError(
            f"{path} is missing or damaged: its SHA-256 is {found[:12]}…, base.json records "
            f"{expected[:12]}…. Run `dvc pull`, or import the base again"
        )
