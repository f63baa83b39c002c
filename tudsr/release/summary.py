"""What a pipeline run came to, in one file: ``outputs/run/summary.json``.

Written anew by every run of `tudsr_full`, cached or not: at its beginning without a verdict, so
that a run that fails never leaves an earlier one's words behind.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from tudsr.images.atomic import write_text
from tudsr.places import outputs_dir
from tudsr.release.gate import Verdict


class RunSummary(BaseModel):
    """How far a run came.

    Attributes:
        run: the pipeline run's name; of one that only began, its profile's.
        model: the registered model's name, empty until the gate has decided.
        verdict: what the gate said, None before.
        version: the registered version, None where none was.
    """

    model_config = ConfigDict(frozen=True)

    run: str
    model: str = ""
    verdict: Verdict | None = None
    version: str | None = None


def write_summary(summary: RunSummary) -> None:
    """Put this in the place of what the file said."""
    write_text(_path(), summary.model_dump_json(indent=1) + "\n")


def read_summary() -> RunSummary | None:
    """What the last run came to; None where none was begun."""
    if not _path().is_file():
        return None
    return RunSummary.model_validate_json(_path().read_text(encoding="utf-8"))


def _path() -> Path:
    return outputs_dir() / "run" / "summary.json"
