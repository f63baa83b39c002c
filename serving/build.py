"""A Bento of one bundle: the service, the library and the model, with pinned packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import yaml
from packaging.requirements import Requirement

from tudsr.errors import ModelError
from tudsr.profile import PROJECT_ROOT
from tudsr.provenance import code_fingerprint
from tudsr.release.whole import copy_whole

_PACKAGES = ("tudsr", "serving")
_QUIET = shutil.ignore_patterns("__pycache__", "*.pyc")


def build_bento(bundle: Path, bundle_hash: str) -> str:
    """Build the Bento with ``bentoml build`` and return its tag, ``tudsr:VERSION``.

    The version names the bundle and the code, so the same model with the same code is the same
    Bento; one that is in the Bento store (``BENTOML_HOME``) already is not built again. A small
    base that the bundle only refers to, like the shipped model's, is in it.

    Raises:
        ModelError: no intact bundle, a base that is not there, or ``bentoml build`` failed; its
            last lines are in the message.
    """
    tag = f"tudsr:{bundle_hash[:12]}-{code_fingerprint(_PACKAGES)[:8]}"
    if _bentoml(["get", tag, "-o", "path"]).returncode == 0:
        return tag
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder)
        for name in _PACKAGES:
            shutil.copytree(PROJECT_ROOT / name, context / name, ignore=_QUIET)
        copy_whole(bundle, context / "bundle")
        (context / "bentofile.yaml").write_text(yaml.safe_dump(_bentofile(bundle_hash)), "utf-8")
        arguments = ["build", "--version", tag.split(":")[1], "--output", "tag", "."]
        done = _bentoml(arguments, context)
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-5:])
        raise ModelError(f"bentoml build failed:\n{said}")
    return tag


def pinned_packages() -> list[str]:
    """What the service needs, as ``name==version`` of what is installed here."""
    wanted = [Requirement(line) for line in requires("tudsr") or []]
    names = [
        r.name
        for r in wanted
        if r.marker is None or any(r.marker.evaluate({"extra": e}) for e in ("", "serve"))
    ]
    return [f"{name}=={pin}" for name in sorted(names) if (pin := _installed(name))]


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _bentofile(bundle_hash: str) -> dict[str, object]:
    return {
        "service": "serving.service:Tudsr",
        "labels": {"bundle": bundle_hash[:12]},
        "include": ["tudsr/", "serving/", "bundle/"],
        "python": {"packages": pinned_packages(), "lock_packages": False},
    }


def _bentoml(arguments: list[str], cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """BentoML in a process of its own: it changes directory and imports what it builds."""
    environment = {"BENTOML_DO_NOT_TRACK": "True", **os.environ, "PYTHONPATH": ""}
    command = [sys.executable, "-m", "bentoml", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=cwd, check=False
    )
