"""Writing files so that a killed process leaves the old content or the new, never half."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)


@contextmanager
def naming_disk_errors(path: Path) -> Generator[None]:
    """Around writing to ``path``: what the disk refuses is an ``OSError`` that names ``path``.

    Python's own do not say which file, and safetensors has the reason in its message alone.
    """
    try:
        yield
    except Exception as error:
        number = _disk_error(error)
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


@contextmanager
def writing(path: Path) -> Generator[Path]:
    """Yield a temporary file name beside ``path``; on success it is fsynced and renamed.

    On an error the temporary file is removed and what stood at ``path`` stays; a full disk is an
    ``OSError`` that names ``path``, whichever library met it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem[:40]}.{uuid.uuid4().hex}{path.suffix}")
    try:
        with naming_disk_errors(path):
            yield temporary
            _settle(temporary)
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _fsync(path.parent)


@contextmanager
def writing_dir(path: Path) -> Generator[Path]:
    """Yield a temporary directory that takes the place of ``path`` on success.

    A full disk is an ``OSError`` that names ``path``, whichever library met it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name[:40]}.{uuid.uuid4().hex}")
    temporary.mkdir()
    try:
        with naming_disk_errors(path):
            yield temporary
            for entry in temporary.rglob("*"):
                if entry.is_file():
                    _settle(entry)
                else:
                    _fsync(entry)
            _fsync(temporary)
            _swap(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _fsync(path.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically."""
    with writing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically, as UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` to ``path`` atomically, as indented JSON with a final newline."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def remove_dir(path: Path) -> None:
    """Remove a directory so that a killed process leaves it whole or gone, never half."""
    doomed = path.with_name(f".{path.name[:40]}.{uuid.uuid4().hex}")
    path.replace(doomed)
    shutil.rmtree(doomed)


def remove_leftovers(folder: Path, name: str = "*") -> None:
    """Remove the temporary files and directories that a killed process left in ``folder``.

    ``name`` limits it to those that were to become, or had been, files of this name. Call it only
    where nobody else is writing.
    """
    for entry in folder.glob(f".{name}.*"):
        if not re.search(r"\.[0-9a-f]{32}(\.|$)", entry.name):
            continue
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _disk_error(error: Exception) -> int | None:
    """Number of a disk's error that does not say yet which file it was about."""
    if isinstance(error, OSError):
        return error.errno if error.filename is None and error.errno in _DISK else None
    # By name, so that commands that load no model need not load safetensors.
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found and type(error).__name__ == "SafetensorError" else None


def _swap(temporary: Path, path: Path) -> None:
    """Rename a directory over another; the old one goes last."""
    if not path.exists():
        temporary.replace(path)
        return
    old = path.with_name(f".{path.name[:40]}.{uuid.uuid4().hex}.old")
    path.replace(old)
    temporary.replace(path)
    shutil.rmtree(old)


def _settle(file: Path) -> None:
    """Readable by others, whatever wrote it (safetensors makes private files), and on the disk."""
    file.chmod(file.stat().st_mode | 0o044)
    _fsync(file)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
