"""Which pictures of a big set could not be used: one file for all workers, ranks and runs."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

from tudsr.errors import DataError

_LOG = logging.getLogger(__name__)


class SkipLog:
    """A JSONL file with a line for each picture that was passed over, and why.

    Whether a picture can be used is a fact of the set and of the crop's size, so lines of earlier
    runs hold; a picture that two workers meet may have two lines and counts once.
    """

    def __init__(self, path: Path, pictures: int, max_share: float) -> None:
        self.path, self.pictures, self.max_share = path, pictures, max_share

    def add(self, label: str, reason: str) -> None:
        """Record a picture.

        Raises:
            DataError: more than ``max_share`` of the set's pictures are recorded now.
        """
        known = self.read()
        if label in known:
            return
        self._append(label, reason)
        _LOG.warning("skipped %s: %s", label, reason)
        known[label] = reason
        if len(known) > self.max_share * self.pictures:
            raise DataError(
                f"{len(known)} of {self.pictures} pictures of the training set cannot be used, "
                f"above data.max_bad_share = {self.max_share:g}; the last: {label}: {reason}. All "
                f"stand in {self.path}: mend the set, or raise the share in the profile"
            )

    def read(self) -> dict[str, str]:
        """Reasons by picture; a last line that was cut off by a kill is left out."""
        if not self.path.is_file():
            return {}
        reasons: dict[str, str] = {}
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            reasons[row["picture"]] = row["reason"]
        return reasons

    def _append(self, label: str, reason: str) -> None:
        """One write of one line: what the system appends whole, whoever else writes."""
        line = json.dumps({"picture": label, "reason": reason}, ensure_ascii=False) + "\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)
