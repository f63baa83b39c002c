"""Which code, data, base, settings, seed and machine made a thing."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from tudsr.profile import PROJECT_ROOT, Profile, dump_profile

_SOURCES = {".py", ".html", ".css", ".js", ".json", ".npz", ".md"}


class Provenance(BaseModel):
    """Everything that decided a result; holds no path and no host name.

    Attributes:
        code: fingerprint of the library's sources.
        commit: git commit, None outside a repository.
        dirty: whether tracked files differed from that commit.
        data: version of the photographs, see ``tudsr.data.photos.data_version``.
        base: version of the base, see ``tudsr.model.version.base_version``.
        profile: SHA-256 of the settings, written out as YAML.
        machine: processor, cores and operating system.
        packages: versions of the libraries that compute.
        created: time in UTC, ISO 8601.
    """

    model_config = ConfigDict(frozen=True)

    code: str
    commit: str | None
    dirty: bool
    data: str
    base: str
    profile: str
    seed: int
    machine: str
    packages: dict[str, str]
    created: str


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def code_fingerprint(packages: Sequence[str] = ("tudsr",), root: Path = PROJECT_ROOT) -> str:
    """SHA-256 over the names and contents of all source files of these packages.

    Takes 10 ms or so: ZenML asks for it before every step. Hidden files and caches do not count.

    Raises:
        FileNotFoundError: no such package below ``root``.
    """
    digest = hashlib.sha256()
    for package in packages:
        if not (root / package).is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), package)
        for path in sorted((root / package).rglob("*")):
            if path.suffix in _SOURCES and not path.name.startswith(".") and path.is_file():
                digest.update(f"{path.relative_to(root).as_posix()}\0".encode())
                digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()


def collect(profile: Profile, data_version: str, base_version: str) -> Provenance:
    """The provenance of what is being made now, with this profile."""
    commit, dirty = _git_state()
    return Provenance(
        code=code_fingerprint(),
        commit=commit,
        dirty=dirty,
        data=data_version,
        base=base_version,
        profile=hashlib.sha256(dump_profile(profile).encode()).hexdigest(),
        seed=profile.seed,
        machine=_machine(),
        packages={name: _version(name) for name in ("torch", "diffusers", "peft")},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _git_state() -> tuple[str | None, bool]:
    """The commit and whether tracked files differ from it; None outside a repository."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(PROJECT_ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "-uno"))
    except (OSError, subprocess.CalledProcessError):
        return None, False


def _machine() -> str:
    return f"{_processor()}, {os.cpu_count()} cores, {platform.system()}"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
