"""The outcome of each attempt at a step, on the checkpoint volume.

Kubeflow retries whatever failed. An attempt that ended with an error is not worth another: the
next one reads the outcome here and fails at once, with that error. One that was interrupted after
saving, or whose pod was killed and so left no outcome, goes on from its checkpoints.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from tudsr.errors import Interrupted, TudsrError
from tudsr.images.atomic import write_json

VOLUME = "TUDSR_VOLUME"
"""Environment variable: where the checkpoint volume is mounted."""

Outcome = Literal["started", "done", "interrupted", "error"]


class FailedBeforeError(TudsrError):
    """An earlier attempt at this step failed; trying again would fail the same way."""


class Attempts:
    """The attempts at one step of one run."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def list(self) -> list[dict[str, Any]]:
        """What is recorded, oldest first; an unreadable record counts as none."""
        try:
            return json.loads(self.file.read_text(encoding="utf-8"))["attempts"]
        except (OSError, ValueError, KeyError):
            return []

    def require_no_error(self) -> None:
        """Let an attempt go on.

        Raises:
            FailedBeforeError: an earlier one ended with an error, which the message repeats.
        """
        for number, attempt in enumerate(self.list(), 1):
            if attempt["outcome"] == "error":
                raise FailedBeforeError(
                    f"{attempt['error']} (attempt {number} failed with this, so it is not tried "
                    "again; mend it and start a new run)"
                )

    @contextmanager
    def recorded(self, interruptions: tuple[type[BaseException], ...] = ()) -> Generator[None]:
        """Record what happens inside: nothing but ``started`` if the process is killed there.

        ``interruptions`` are exceptions that mean the same as ``Interrupted``.
        """
        self._append("started")
        try:
            yield
        except FailedBeforeError:
            self._close("error")  # the first one says which
            raise
        except (Interrupted, *interruptions) as stop:
            self._close("interrupted", str(stop))
            raise
        except BaseException as error:
            self._close("error", f"{type(error).__name__}: {error}")
            raise
        self._close("done")

    def _append(self, outcome: Outcome) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._write([*self.list(), {"outcome": outcome, "at": now, "pod": pod_name()}])

    def _close(self, outcome: Outcome, error: str = "") -> None:
        *before, last = self.list()
        self._write([*before, {**last, "outcome": outcome} | ({"error": error} if error else {})])

    def _write(self, attempts: list[dict[str, Any]]) -> None:
        write_json(self.file, {"attempts": attempts})


def attempts_of(run_id: str, step: str) -> Attempts | None:
    """The attempts at a step; None without a checkpoint volume."""
    folder = run_folder(run_id)
    return Attempts(folder / "attempts" / f"{step}.json") if folder else None


def run_folder(run_id: str) -> Path | None:
    """The run's own folder on the checkpoint volume; None without one."""
    volume = os.environ.get(VOLUME)
    return Path(volume) / "runs" / run_id if volume else None


def pod_name() -> str:
    """The pod's name: Kubeflow tells it, and it is the host's name too."""
    return os.environ.get("KFP_POD_NAME") or os.environ.get("HOSTNAME", "")
