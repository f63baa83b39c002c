"""The processes that make training samples: how they end, and what their errors say."""

from __future__ import annotations

import builtins
import re
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from torch.utils.data import DataLoader

import tudsr.errors
from tudsr.errors import DataError, TrainingError, TudsrError

_DIED = re.compile(r"DataLoader worker \(pid.*(killed by signal: [\w ]+|exited unexpectedly)")
_SHARED_MEMORY = re.compile(r"(?:unable|could not) .*</torch_.*")
_LAST_ERROR = re.compile(r"^([\w.]+): (?=\S)", re.MULTILINE)


def until_closed(loader: DataLoader[Any]) -> Generator[Any]:
    """Its batches; then its workers are ended, even one that hangs.

    They ignore SIGTERM, which is all that the loader sends those that do not leave when asked.
    """
    batches = iter(loader)
    workers = getattr(batches, "_workers", ())
    leave = getattr(batches, "_shutdown_workers", lambda: None)
    try:
        yield from batches
    finally:
        # Asks them to leave, waits, and forgets them: torch makes an error, at any later moment,
        # of the end of a worker that it has not been told of.
        leave()
        for worker in workers:
            if worker.is_alive():
                worker.kill()


@contextmanager
def telling_workers_errors(name: str) -> Generator[None]:
    """Around training ``name``: what befell a worker is one sentence, not its traceback.

    Raises:
        TudsrError: the worker's own, as it would be without workers.
        DataError: a file that the worker could not read, or a picture it refused.
        TrainingError: the worker was killed, or had no shared memory for its samples.
    """
    try:
        yield
    except Exception as error:
        told = _told(name, str(error))
        if told is None:
            raise
        raise told from None


def _told(name: str, said: str) -> TudsrError | None:
    """A sentence on what a worker's error says; None where it is none, or one of the program."""
    lost = _DIED.search(said) or _SHARED_MEMORY.search(said)
    if lost:
        return TrainingError(
            f"{name}: a process that makes training samples was lost ({lost[0]}). Most often "
            "memory has run out, the machine's or the shared one (/dev/shm): lower "
            "runtime.data_workers (0 needs no shared memory) or allow more of it, as by docker's "
            "--shm-size. The newest checkpoint is kept; start again to go on from it"
        )
    if not re.match(r"Caught \w+ in DataLoader worker process", said):
        return None
    last = [*_LAST_ERROR.finditer(said)][-1:]
    return _as_without_workers(last[0][1], said[last[0].end() :].strip()) if last else None


def _as_without_workers(kind: str, sentence: str) -> TudsrError | None:
    module, _, name = kind.rpartition(".")
    own = getattr(tudsr.errors, name, None) if module == "tudsr.errors" else None
    if own is not None:
        return own(sentence) if own.__init__ is Exception.__init__ else DataError(sentence)
    builtin = getattr(builtins, kind, None)
    reads = isinstance(builtin, type) and issubclass(builtin, OSError)
    return DataError(f"a training sample could not be made: {sentence}") if reads else None
