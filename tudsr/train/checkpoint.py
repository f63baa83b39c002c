"""Checkpoints: complete or absent, never half, and never unpickled.

A checkpoint is a folder ``IMAGES/`` with ``state.safetensors`` (adapter, its average, heads, both
optimizers) and ``state.json``: images seen, which is the position in data and schedule and what
every random draw derives from; the resolved settings and input files it belongs to; and the
tensors' SHA-256, which marks it complete. There are no states of random generators in it because
nothing draws from one that outlives a draw (``tests/train/test_interruptions.py`` proves it).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tudsr.errors import TrainingError
from tudsr.images.atomic import remove_dir, write_json, writing_dir
from tudsr.provenance import file_sha256

CADENCE = {"checkpoint_every", "log_every", "sample_every"}
"""Settings that decide when something is told or kept, and no result: no part of the inputs."""
ANYWHERE = "TUDSR_RESUME_ANYWHERE"
_KEEP = 2
_LISTED_FILES = 1000
_TOLD = 8


@dataclass(frozen=True)
class Inputs:
    """What decides a training run: its resolved settings and its input files' contents.

    Attributes:
        settings: nested, as JSON holds them.
        files: SHA-256 by name, in the order of training. Names count without their folders, so a
            moved project goes on from its checkpoints; a name's repetitions are numbered.
        running: device and precision, which are no part of the key: settings may leave them open.
    """

    settings: Mapping[str, Any]
    files: Mapping[str, str]
    running: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def key(self) -> str:
        """SHA-256 of both."""
        text = json.dumps([self.settings, list(self.files.items())], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def told(self) -> dict[str, Any]:
        """What a checkpoint says of them; very many files only by their number and one hash."""
        files = dict(sorted(self.files.items()))
        if len(files) > _LISTED_FILES:
            whole = hashlib.sha256(json.dumps(files).encode()).hexdigest()
            files = {f"{len(files)} files": whole}
        return {"settings": self.settings, "files": files}


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint on disk."""

    folder: Path
    images_seen: int

    @property
    def weights(self) -> Path:
        """The tensors' file."""
        return self.folder / "state.safetensors"

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors, on the CPU."""
        return load_file(self.weights)


def training_inputs(
    settings: Mapping[str, Any],
    files: Sequence[Path],
    running: Mapping[str, str] | None = None,
    known: Mapping[str, str] | None = None,
) -> Inputs:
    """Read the files' hashes; ``settings`` must go through JSON.

    ``known`` are hashes of what is no single file, by a name to tell it by.
    """
    plain = json.loads(json.dumps(dict(settings)))
    hashes: dict[str, str] = {}
    seen = Counter[str]()
    for path in files:
        seen[path.name] += 1
        again = f" ({seen[path.name]})" if seen[path.name] > 1 else ""
        hashes[path.name + again] = file_sha256(path)
    return Inputs(plain, {**hashes, **(known or {})}, running or {})


def save_checkpoint(
    folder: Path, images_seen: int, tensors: Mapping[str, Tensor], inputs: Inputs
) -> None:
    """Write one checkpoint, then remove all but the newest two and what is newer than this one.

    Newer ones can only be damaged: training would have gone on from them.

    Raises:
        TrainingError: a tensor that is not finite; nothing is written and the older ones stay.
    """
    saved = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    _check_finite(folder, images_seen, saved)
    with writing_dir(folder / f"{images_seen:010d}") as temporary:
        weights = temporary / "state.safetensors"
        save_file(saved, weights)
        state = {"images_seen": images_seen, "key": inputs.key, "sha256": file_sha256(weights)}
        told = {**inputs.told(), "running": dict(inputs.running)}
        write_json(temporary / "state.json", {**state, **told})
    there = sorted(folder.glob("[0-9]*"))
    newer = [c for c in there if c.name > f"{images_seen:010d}"]
    for old in [*newer, *there[: len(there) - len(newer)][:-_KEEP]]:
        remove_dir(old)


def newest_checkpoint(folder: Path, inputs: Inputs) -> Checkpoint | None:
    """The newest complete checkpoint in ``folder``, or None.

    Raises:
        TrainingError: it was made with other settings or files, or on another device or in another
            precision; the message says which.
    """
    for candidate in sorted(folder.glob("[0-9]*"), reverse=True):
        state = _complete(candidate)
        if state is None:
            continue
        if state["key"] != inputs.key:
            raise TrainingError(
                f"{candidate} belongs to another training: {differences(state, inputs)}. Set these "
                f"back to go on, or remove {folder} to start anew"
            )
        _check_running(candidate, state, inputs.running)
        return Checkpoint(candidate, int(state["images_seen"]))
    return None


def _check_running(candidate: Path, state: Mapping[str, Any], now: Mapping[str, str]) -> None:
    """A machine that lost its GPU must not go on at a CPU's pace without a word."""
    there = state.get("running", {})
    told = [f"{n} {there[n]} there, {now[n]} here" for n in now if there.get(n, now[n]) != now[n]]
    if told and os.environ.get(ANYWHERE) != "1":
        raise TrainingError(
            f"{candidate} was made with {'; '.join(told)}. Look whether this machine is the right "
            f"one; to go on all the same, set {ANYWHERE}=1 in the environment"
        )


def other_trainings(folder: Path, inputs: Inputs) -> list[str]:
    """One sentence for each unfinished training of other inputs under ``folder``."""
    told: list[str] = []
    for run in sorted(folder.glob("[0-9a-f]*/checkpoints")):
        for candidate in sorted(run.glob("[0-9]*"), reverse=True):
            state = _state(candidate)
            if state is not None and state["key"] != inputs.key:
                told.append(
                    f"{run.parent} holds a training that stopped after {state['images_seen']} "
                    f"images with {differences(state, inputs)}"
                )
                break
    return told


def differences(state: Mapping[str, Any], inputs: Inputs) -> str:
    """Which settings and files differ, with both values: "stage1.lr 0.001 there, 0.002 now"."""
    now = inputs.told()
    there, here = (_flat(side.get("settings", {})) for side in (state, now))
    told = [
        f"{name} {_shown(there, name)} there, {_shown(here, name)} now"
        for name in sorted(there.keys() | here.keys())
        if _shown(there, name) != _shown(here, name)
    ]
    theirs, ours = state.get("files", {}), now["files"]
    told += [f"{name} is not there" for name in sorted(ours.keys() - theirs.keys())]
    told += [f"{name} is there alone" for name in sorted(theirs.keys() - ours.keys())]
    told += [
        f"{n} has changed" for n in sorted(ours.keys() & theirs.keys()) if ours[n] != theirs[n]
    ]
    more = [f"and {len(told) - _TOLD} differences more"] if len(told) > _TOLD else []
    return "; ".join(told[:_TOLD] + more) or "settings or an order of files that it does not list"


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


def _check_finite(folder: Path, images_seen: int, tensors: Mapping[str, Tensor]) -> None:
    """Losses may still be finite when a gradient no longer is, and has spoilt the weights."""
    bad = [name for name, value in tensors.items() if not value.isfinite().all()]
    if not bad:
        return
    raise TrainingError(
        f"{len(bad)} of {len(tensors)} trained tensors are not finite after {images_seen} images, "
        f"such as {bad[0]}, though the losses were: a gradient overflowed. The last checkpoint "
        f"under {folder} is kept. Lower the learning rate or clip_norm"
    )


def _complete(candidate: Path) -> dict[str, Any] | None:
    state = _state(candidate)
    try:
        whole = state and file_sha256(candidate / "state.safetensors") == state["sha256"]
    except OSError:
        return None
    return state if whole else None


def _state(candidate: Path) -> dict[str, Any] | None:
    try:
        state = json.loads((candidate / "state.json").read_text(encoding="utf-8"))
        return state if {"images_seen", "key", "sha256"} <= state.keys() else None
    except (OSError, ValueError, AttributeError):
        return None


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        inner = isinstance(value, dict)
        flat |= _flat(value, f"{prefix}{name}.") if inner else {prefix + name: value}
    return flat


def _shown(flat: Mapping[str, Any], name: str) -> str:
    return json.dumps(flat[name]) if name in flat else "unset"
