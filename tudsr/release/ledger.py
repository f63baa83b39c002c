"""The promotion ledger: who made which version champion, when and why. MLflow keeps no history.

One JSON object a line; each holds the SHA-256 of the line before it, so a line that is changed,
dropped or put in afterwards is noticed by the one that follows.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from tudsr.errors import RegistryError
from tudsr.images.atomic import write_text
from tudsr.places import outputs_dir

_FIRST = "0" * 64

Action = Literal["promote", "rollback", "moved outside"]


class LedgerEntry(BaseModel):
    """One move of the champion.

    Attributes:
        at: time in UTC, ISO 8601.
        registry: short hash of the registry's address, since one ledger may see several.
        moved_from: version that was champion before, None if there was none.
        moved_to: version that is champion now, None if the alias was taken away.
        previous: SHA-256 of the line before this one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: str
    actor: str
    action: Action
    registry: str
    model: str
    moved_from: str | None
    moved_to: str | None
    reason: str
    forced: bool = False
    previous: str = _FIRST


class Ledger:
    """The ledger's file. Read and append only inside ``locked()``.

    Attributes:
        path: the file, which need not exist yet.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or ledger_path()

    @contextmanager
    def locked(self) -> Generator[None]:
        """Hold the ledger against other processes; the second promoter waits."""
        with file_lock(self.path.with_name(f"{self.path.name}.lock")):
            yield

    def entries(self) -> list[LedgerEntry]:
        """All entries, oldest first.

        Raises:
            RegistryError: a line that is not an entry, or a broken chain of hashes.
        """
        entries: list[LedgerEntry] = []
        previous = _FIRST
        for number, line in enumerate(self._lines(), start=1):
            try:
                entry = LedgerEntry.model_validate_json(line)
            except ValidationError:
                raise self._broken(number, "is not an entry") from None
            if entry.previous != previous:
                raise self._broken(number, "does not follow the line before it")
            previous = _hash(line)
            entries.append(entry)
        return entries

    def append(self, entry: LedgerEntry) -> LedgerEntry:
        """Add an entry, chained to the last one, and return it as it stands in the file."""
        self.entries()
        lines = self._lines()
        chained = entry.model_copy(update={"previous": _hash(lines[-1]) if lines else _FIRST})
        write_text(self.path, "".join(f"{line}\n" for line in (*lines, chained.model_dump_json())))
        return chained

    def _lines(self) -> list[str]:
        if not self.path.exists():
            return []
        return self.path.read_text(encoding="utf-8").splitlines()

    def _broken(self, number: int, what: str) -> RegistryError:
        return RegistryError(
            f"{self.path}: line {number} {what}, so the ledger was edited or damaged. Bring back "
            "an earlier copy, or move it aside to begin a new one"
        )


def ledger_path() -> Path:
    """``TUDSR_LEDGER``, else ``outputs/ledger.jsonl``."""
    return Path(os.environ.get("TUDSR_LEDGER") or outputs_dir() / "ledger.jsonl")


def now() -> str:
    """The present in UTC, ISO 8601, seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def file_lock(path: Path) -> Generator[None]:
    """Hold an exclusive lock on a file that is made for it; a killed process lets go."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def champions(entries: list[LedgerEntry]) -> list[str | None]:
    """The line of champions that led to the present one, oldest first.

    A roll-back takes champions off the end, so rolling back twice goes back two champions.
    """
    line: list[str | None] = []
    for entry in entries:
        if entry.action == "rollback":
            while line and line[-1] != entry.moved_to:
                line.pop()
        if not line or line[-1] != entry.moved_to:
            line.append(entry.moved_to)
    return line


def _hash(line: str) -> str:
    return hashlib.sha256(line.encode()).hexdigest()
