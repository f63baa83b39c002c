"""Jobs on disk: a row in SQLite, a file for the picture, a file for the result.

A file is complete before the row says that it is there, and goes after the row: a killed service
leaves finished jobs finished, and the others queued, to be run again.
"""

from __future__ import annotations

import fcntl
import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal

from serving.refusal import Refusal
from tudsr.errors import SettingsError
from tudsr.images.atomic import remove_leftovers, write_bytes, writing

State = Literal["queued", "running", "done", "failed"]
_TABLE = """
CREATE TABLE IF NOT EXISTS job (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, state TEXT NOT NULL, created REAL NOT NULL,
    finished REAL, bytes INTEGER NOT NULL, parameters TEXT NOT NULL, told TEXT NOT NULL
)
"""
# How often the service was killed while it worked on a job. Others in work then count as well.
_CRASHES = "ALTER TABLE job ADD COLUMN crashes INTEGER NOT NULL DEFAULT 0"
_MOST_CRASHES = 3
_SOON_S = 30  # asking again after so long makes sense where jobs are being done


@dataclass(frozen=True)
class Job:
    """A job as recorded.

    Attributes:
        owner: who may see it, a hash of the bearer token; empty in an open service.
        created, finished: seconds since 1970.
        bytes: on disk; while unfinished, with room reserved for the result.
        parameters: what was asked for, as `Parameters` dumps it.
        told: what is known about the result, or ``code`` and ``message`` of a failure.
    """

    id: str
    owner: str
    state: State
    created: float
    finished: float | None
    bytes: int
    parameters: dict[str, Any]
    told: dict[str, Any]


class JobStore:
    """The jobs of one service.

    Args:
        folder: where they are kept; another service must not use it at the same time.
        limit: unfinished jobs at a time.
        limit_bytes: of all files together.
        keep_s: a finished job is forgotten after this time.

    Raises:
        SettingsError: another service uses the folder.
    """

    def __init__(self, folder: Path, limit: int, limit_bytes: int, keep_s: float) -> None:
        self.folder, self.limit, self.limit_bytes, self.keep_s = folder, limit, limit_bytes, keep_s
        folder.mkdir(parents=True, exist_ok=True)
        self._claim = _claimed(folder)
        self._lock = threading.RLock()
        self._db = sqlite3.connect(folder / "jobs.db", check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute(_TABLE)
        if "crashes" not in [row[1] for row in self._db.execute("PRAGMA table_info(job)")]:
            self._db.execute(_CRASHES)
        self._db.execute(
            "UPDATE job SET state = 'queued', crashes = crashes + 1 WHERE state = 'running'"
        )
        self._db.commit()
        self._tidy()

    def close(self) -> None:
        """Let another service have the folder."""
        with self._lock:
            self._db.close()
            self._claim.close()

    def picture(self, job: str) -> Path:
        """The file that came in."""
        return self.folder / f"{job}.in"

    def result(self, job: str) -> Path:
        """The file that goes out."""
        return self.folder / f"{job}.out"

    def add(self, data: bytes, parameters: dict[str, Any], room: int, owner: str = "") -> Job:
        """Record a job and its picture.

        Args:
            data: the picture as it came.
            parameters: what is asked for, JSON.
            room: most bytes that the result may take.
            owner: see `Job`.

        Raises:
            Refusal: ``jobs_full``: too many unfinished ones, or no room; ``too_large``: no room
                ever; ``no_jobs``.
        """
        self.forget_old()
        job, wanted = secrets.token_urlsafe(16), len(data) + room
        self._check_room(wanted)
        write_bytes(self.picture(job), data)  # a slow disk must not keep who asks for a state
        try:
            with self._lock:
                self._check_room(wanted)  # others may have come meanwhile
                self._change(
                    "INSERT INTO job VALUES (?, ?, 'queued', ?, NULL, ?, ?, '{}', 0)",
                    (job, owner, time.time(), wanted, json.dumps(parameters)),
                )
        except Refusal:
            self.picture(job).unlink(missing_ok=True)
            raise
        return self.get(job, owner)

    def get(self, job: str, owner: str = "") -> Job:
        """One job.

        Raises:
            Refusal: ``no_such_job``: unknown, expired, or somebody else's.
        """
        found = self._jobs("WHERE id = ? AND owner = ?", (job, owner))
        expired = found and found[0].finished and found[0].finished + self.keep_s < time.time()
        if not found or expired:
            raise Refusal(
                "no_such_job",
                f"no such job: ids are made by POST /v1/jobs and kept {self.keep_s:.0f} s after "
                "the end",
            )
        return found[0]

    def unfinished(self) -> list[Job]:
        """What is to be done, oldest first."""
        return self._jobs("WHERE state IN ('queued', 'running') ORDER BY created", ())

    def running(self, job: str, now: bool = True) -> None:
        """Work on it has begun, or was put off."""
        state = "running" if now else "queued"
        self._change("UPDATE job SET state = ? WHERE id = ?", (state, job))

    @contextmanager
    def making(self, job: str) -> Generator[BinaryIO]:
        """Takes a result as it is made; kept once it is whole, unless its job was deleted."""
        with writing(self.result(job)) as temporary, temporary.open("w+b") as out:
            yield out
        if not self._knows(job):
            self.result(job).unlink(missing_ok=True)

    def done(self, job: str, told: dict[str, Any]) -> None:
        """The result is there; one whose job was deleted meanwhile is dropped."""
        with self._lock:
            if self._knows(job):
                files = self.result(job), self.picture(job)
                size = sum(file.stat().st_size for file in files)
                self._finish(job, "done", size, told)
                return
        self.result(job).unlink(missing_ok=True)

    def failed(self, job: str, code: str, message: str) -> None:
        """Keep the reason."""
        self._finish(job, "failed", 0, {"code": code, "message": message})
        self.picture(job).unlink(missing_ok=True)

    def delete(self, job: str) -> None:
        """Forget a job and its files."""
        self._change("DELETE FROM job WHERE id = ?", (job,))
        self.picture(job).unlink(missing_ok=True)
        self.result(job).unlink(missing_ok=True)

    def forget_old(self) -> None:
        """Drop finished jobs whose time is over."""
        for job in self._jobs("WHERE finished < ?", (time.time() - self.keep_s,)):
            self.delete(job.id)

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""
        with self._lock:
            rows = self._db.execute("SELECT state, count(*) FROM job GROUP BY state").fetchall()
        return {"queued": 0, "running": 0, "done": 0, "failed": 0, **dict(rows)}

    def check_open(self) -> None:
        """Whether a job would be taken, whatever its size: told before its body is read.

        Raises:
            Refusal: ``no_jobs``, or ``jobs_full``: too many are unfinished.
        """
        if self.limit == 0:
            raise Refusal("no_jobs", "this service takes no jobs: send the picture to /v1/upscale")
        if len(self.unfinished()) >= self.limit:
            raise Refusal(
                "jobs_full",
                f"{self.limit} jobs are unfinished, the most there may be: ask again later",
                retry_after_s=_SOON_S,
            )

    def _check_room(self, wanted: int) -> None:
        if wanted > self.limit_bytes:
            raise Refusal(
                "too_large",
                f"this job may take {wanted:,} bytes, over the limit of {self.limit_bytes:,} for "
                "all jobs together: ask for a smaller result, or send the picture to /v1/upscale",
            )
        self.check_open()
        used = sum(job.bytes for job in self._jobs("", ()))
        if used + wanted > self.limit_bytes:
            raise Refusal(
                "jobs_full",
                f"this job may take {wanted:,} bytes and {used:,} of {self.limit_bytes:,} are in "
                "use: delete finished jobs, or ask again when some have expired",
                retry_after_s=self._until_room(),
            )

    def _until_room(self) -> float:
        """Until there may be some: soon where jobs are at work, else when the next one expires."""
        if self.unfinished():
            return _SOON_S
        ends = [job.finished for job in self._jobs("WHERE finished IS NOT NULL", ())]
        first = min((e for e in ends if e is not None), default=time.time())
        return max(1, first + self.keep_s - time.time())

    def _finish(self, job: str, state: State, size: int, told: dict[str, Any]) -> None:
        self._change(
            "UPDATE job SET state = ?, finished = ?, bytes = ?, told = ? WHERE id = ?",
            (state, time.time(), size, json.dumps(told), job),
        )

    def _jobs(self, where: str, values: tuple[Any, ...]) -> list[Job]:
        """Rows; ``where`` is one of the fixed texts above, never a client's."""
        with self._lock:
            rows = self._db.execute(f"SELECT * FROM job {where}", values).fetchall()
        return [_job(*row) for row in rows]

    def _knows(self, job: str) -> bool:
        return bool(self._jobs("WHERE id = ?", (job,)))

    def _change(self, statement: str, values: tuple[Any, ...]) -> None:
        with self._lock, self._db:
            self._db.execute(statement, values)

    def _tidy(self) -> None:
        """Remove files without a row, and give up jobs without a picture and those that kill."""
        remove_leftovers(self.folder)
        known = {job.id for job in self._jobs("", ())}
        for file in [*self.folder.glob("*.in"), *self.folder.glob("*.out")]:
            if file.stem not in known:
                file.unlink()
        for job in self.unfinished():
            if not self.picture(job.id).is_file():
                self.failed(job.id, "internal", "the picture was lost: send it again")
        for job in self._jobs("WHERE crashes >= ? AND state = 'queued'", (_MOST_CRASHES,)):
            told = f"the service was killed {_MOST_CRASHES} times while it worked on this picture"
            self.failed(job.id, "internal", f"{told}: ask for a smaller result")


def _claimed(folder: Path) -> IO[str]:
    """An open lock file; the lock goes with the process, however it ends."""
    lock = (folder / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise SettingsError(
            f"another service keeps its jobs in {folder}: stop it, or set TUDSR_SERVE_STATE to "
            "another folder"
        ) from None
    return lock


def _job(
    id: str,
    owner: str,
    state: State,
    created: float,
    finished: float | None,
    size: int,
    parameters: str,
    told: str,
    _crashes: int,
) -> Job:
    """A row of the table."""
    read = json.loads(parameters), json.loads(told)
    return Job(id, owner, state, created, finished, size, *read)
