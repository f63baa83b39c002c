"""Running the ``tudsr`` command many times at little cost: forks of one process that has imported.

Each child is a process group of its own, so that a kill takes its data workers along, as an
out-of-memory killer or a node that goes away would.
"""

from __future__ import annotations

import hashlib
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from PIL import Image

# Before any parallel region: a forked child must not wait for threads it does not have.
torch.set_num_threads(1)

from benchmarks.drawn import drawn_picture  # noqa: E402
from tudsr.cli import main as command  # noqa: E402
from tudsr.model.losses import staged_trunk  # noqa: E402
from tudsr.train.stages import StageOne, StageTwo  # noqa: E402


def warm_up() -> None:
    """Import and build what every child needs, once."""
    import_module("serving.commands")
    staged_trunk("random", None)


def write_photographs(folder: Path, count: int = 4, side_px: int = 160) -> None:
    """Pictures with structure at every scale, in the layout of a data folder."""
    for split in ("train", "val", "test"):
        (folder / split).mkdir(parents=True)
        for index in range(count):
            pixels = drawn_picture(side_px, index)
            Image.fromarray(pixels).save(folder / split / f"{index}.png")


def fork(arguments: Sequence[object], environment: Mapping[str, str], trace: Path) -> int:
    """Start ``tudsr ARGUMENTS`` in a child and return its process id.

    ``trace`` gets one line an update as it begins: images seen and SHA-256 of the batch; what is
    printed goes to a file of its name with the suffix ``.log``.
    """
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setsid()
        os.environ.update(environment)
        log = os.open(trace.with_suffix(".log"), os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        os.dup2(log, 1)
        os.dup2(log, 2)
        _trace_updates(trace)
        sys.argv = ["tudsr", *map(str, arguments)]
        command()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def ended(child: int) -> int:
    """Wait for a child: its exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def traced(trace: Path) -> list[tuple[int, str]]:
    """Images seen and the batch's hash of each update that began; a line cut off is left out."""
    text = trace.read_text("utf-8") if trace.is_file() else ""
    lines = [line.split() for line in text.splitlines()]
    return [(int(seen), sha) for seen, sha, *end in lines if end == ["."]]


def _trace_updates(trace: Path) -> None:
    for kind in (StageOne, StageTwo):
        kind.update = _traced_update(kind.update, trace)


def _traced_update(update: Any, trace: Path) -> Any:
    def wrapped(self: Any, batch: dict[str, torch.Tensor], seen: int, rate: float) -> Any:
        content = b"".join(batch[name].numpy().tobytes() for name in sorted(batch))
        with trace.open("a", encoding="utf-8") as file:
            file.write(f"{seen} {hashlib.sha256(content).hexdigest()} .\n")
        return update(self, batch, seen, rate)

    return wrapped
