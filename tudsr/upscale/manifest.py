"""What became of each picture of a folder, so that a second run goes on where the first ended."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

NAME = "tudsr-manifest.jsonl"


@dataclass(frozen=True)
class Entry:
    """One picture.

    Attributes:
        source: path inside the input folder.
        target: path inside the output folder.
        stamp: the source's bytes and time of change, ns, when the result was made; of a failure,
            when the one before was, if there is one.
        signature: program, model and settings of that result; empty where there is none.
        seconds: it took.
        error: why it failed, None where it did not.
    """

    source: str
    target: str
    stamp: tuple[int, int]
    signature: str
    seconds: float
    error: str | None = None


class Manifest:
    """A line of JSON a picture, the last one about a source counts; lines are only added.

    A line that a killed process left half written is no line.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self.entries: dict[str, Entry] = {}
        for line in self.path.read_text("utf-8").splitlines() if self.path.is_file() else ():
            try:
                raw: dict[str, Any] = json.loads(line)
                raw["stamp"] = tuple(raw["stamp"])
                entry = Entry(**raw)
            except (ValueError, TypeError, KeyError):
                continue
            self.entries[entry.source] = entry

    def add(self, entry: Entry) -> None:
        """Note a picture at once."""
        self.entries[entry.source] = entry
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps(asdict(entry), ensure_ascii=False) + "\n"
        with self.path.open("a+b") as file:
            file.seek(max(0, file.tell() - 1))
            half = file.read(1) not in (b"\n", b"")
            file.write((b"\n" if half else b"") + line.encode("utf-8"))


def stamp(path: Path) -> tuple[int, int]:
    """What changes when a file's content does: its size and time of change."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns
