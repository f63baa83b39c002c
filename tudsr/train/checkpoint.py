"""Checkpoints: complete or absent, never half, and never unpickled.

A checkpoint is a folder ``IMAGES/`` with ``state.safetensors`` and ``state.json`` (images seen,
the key of the settings it belongs to, and the tensors' SHA-256, which marks it complete).
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tudsr.errors import TrainingError
from tudsr.images.atomic import write_json, writing_dir
from tudsr.provenance import file_sha256

_KEEP = 2


def inputs_key(settings: Mapping[str, Any], files: Sequence[Path]) -> str:
    """SHA-256 of what decides a training run: its settings and its input files' contents.

    File names count without their folders, so a moved project goes on from its checkpoints.
    """
    contents = {path.name: file_sha256(path) for path in files}
    text = json.dumps([dict(settings), sorted(contents.items())], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def save_checkpoint(
    folder: Path, images_seen: int, tensors: Mapping[str, Tensor], key: str
) -> None:
    """Write one checkpoint, then remove all but the newest two."""
    with writing_dir(folder / f"{images_seen:010d}") as temporary:
        weights = temporary / "state.safetensors"
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, weights)
        state = {"images_seen": images_seen, "key": key, "sha256": file_sha256(weights)}
        write_json(temporary / "state.json", state)
    for old in sorted(folder.glob("[0-9]*"))[:-_KEEP]:
        shutil.rmtree(old)


def newest_checkpoint(folder: Path, key: str) -> tuple[int, dict[str, Tensor]] | None:
    """Images seen and tensors of the newest complete checkpoint, or None.

    Raises:
        TrainingError: the checkpoint was made with other settings (another ``key``).
    """
    for candidate in sorted(folder.glob("[0-9]*"), reverse=True):
        state = _complete(candidate)
        if state is None:
            continue
        if state["key"] != key:
            raise TrainingError(
                f"{candidate} was made with other settings, data or code (key {state['key'][:12]}, "
                f"now {key[:12]}): remove {folder} to start anew"
            )
        return int(state["images_seen"]), load_file(candidate / "state.safetensors")
    return None


def optimizer_tensors(name: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimizer's per-parameter state as named tensors."""
    state = optimizer.state_dict()["state"]
    return {
        f"{name}.{index}.{field}": torch.as_tensor(value)
        for index, fields in state.items()
        for field, value in fields.items()
    }


def load_optimizer_tensors(
    name: str, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]
) -> None:
    """The reverse of ``optimizer_tensors``; learning rates stay as they are."""
    fields: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith(f"{name}."):
            index, field = key.removeprefix(f"{name}.").split(".")
            fields.setdefault(int(index), {})[field] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": fields, "param_groups": groups})


def _complete(candidate: Path) -> dict[str, Any] | None:
    try:
        state = json.loads((candidate / "state.json").read_text(encoding="utf-8"))
        whole = file_sha256(candidate / "state.safetensors") == state["sha256"]
    except (OSError, ValueError, KeyError):
        return None
    return state if whole else None
