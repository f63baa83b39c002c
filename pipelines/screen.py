"""What a run prints: a mistake is one sentence, as on the command line; no advertisements.

ZenML's local orchestrator logs a step's error with all frames and then ends with an error of its
own, so that an interrupted training would end with 1 and not 75.
"""

from __future__ import annotations

import logging
import sys
from types import TracebackType

from tudsr.errors import Interrupted, TudsrError

_EXIT_MISTAKE = 2
_NEWS_TO_NOBODY = ("ZenML Pro", "zenml login --local", "ephemeral docs site", "Updating database")
_QUIET = ("mlflow.store.db.utils", "alembic")

_failures: list[TudsrError] = []
_usual_hook = sys.excepthook


def tidy() -> None:
    """Filter what loggers print, and end a process that a ``TudsrError`` ends with its sentence."""
    global _usual_hook
    for handler in logging.getLogger().handlers:
        handler.addFilter(_shown)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    if sys.excepthook is not _ended_by:
        _usual_hook, sys.excepthook = sys.excepthook, _ended_by


def _shown(record: logging.LogRecord) -> bool:
    """Note the mistake that a record tells of and take its frames away; whether to print it."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, TudsrError):
        if not _failures or _failures[-1] is not error:
            _failures.append(error)
        record.exc_info = record.exc_text = None
    return not any(words in record.getMessage() for words in _NEWS_TO_NOBODY)


def _ended_by(
    kind: type[BaseException], error: BaseException, frames: TracebackType | None
) -> None:
    """The process' last words and exit code."""
    told = error if isinstance(error, TudsrError) else next(reversed(_failures), None)
    if told is None:
        _usual_hook(kind, error, frames)
        return
    interrupted = isinstance(told, Interrupted)
    print(told if interrupted else f"error: {told}", file=sys.stderr)
    sys.exit(told.code if interrupted else _EXIT_MISTAKE)
