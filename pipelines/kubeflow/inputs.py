"""Photographs and models that are not there are fetched by the hash that git keeps of them.

A ``.dvc`` file names a folder and the hash of its listing; DVC's remote keeps each file under its
own hash. Both are read directly, through fsspec: the ``dvc`` command wants a git repository and a
writable configuration, which a container has not. What is fetched is checked against its hash.
"""

from __future__ import annotations

import configparser
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tudsr.data.sets import set_version
from tudsr.errors import DataError
from tudsr.model.version import base_version, start_version
from tudsr.profile import PROJECT_ROOT, DataSettings, Profile
from tudsr.release.tags import SHIPPED_MODEL

REMOTE = "TUDSR_DVC_REMOTE"
"""Environment variable: DVC's remote, in place of the one that ``.dvc/config`` names."""

_TRACKED = ("*.dvc", "models/*.dvc")


@dataclass(frozen=True)
class Tracked:
    """A folder or file that DVC keeps.

    Attributes:
        path: where it belongs, relative to the project.
        md5: its hash; of the listing, ending in ``.dir``, for a folder.
    """

    path: str
    md5: str


def fetch_inputs(
    parameters: Mapping[str, Any], root: Path = PROJECT_ROOT, store: Path | None = None
) -> list[str]:
    """Fetch what a step's parameters name, is tracked by DVC and is not there.

    Args:
        parameters: the step's parameters; any text in them may name a tracked path.
        root: the project.
        store: folder that outlives the pod: fetched there once, and linked to.

    Returns:
        The paths that were fetched or linked, relative to the project.

    Raises:
        DataError: the remote cannot be reached, lacks a file, or holds another content.
    """
    named = set(_texts(parameters))
    if any(text.startswith(SHIPPED_MODEL) for text in named):
        named |= {"models/small", "models/base"}  # a bundle may refer to its base
    missing = [out for out in tracked(root) if out.path in named and not (root / out.path).exists()]
    for out in missing:
        place = root / out.path
        kept = store / out.md5 if store else place
        if not kept.exists():
            _fetch(out, kept, remote_url(root))
        if kept != place:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(kept)
    return [out.path for out in missing]


def require_versions(parameters: Mapping[str, Any]) -> list[str]:
    """Refuse other photographs, or another base, than the run was started with.

    Their versions were computed where it was started and stand in lineage and in cache keys; what
    is in the pod follows from the image's ``.dvc`` files.

    Args:
        parameters: the step's parameters, as ``fetch_inputs`` had them.

    Returns:
        The paths that were compared, as the settings name them.

    Raises:
        DataError: other content here, or photographs that are not here.
        ModelError: no base here.
    """
    profile = Profile.model_validate(parameters["profile"]) if "profile" in parameters else None
    here: dict[str, tuple[str, str]] = {}
    if "data_version" in parameters:
        data = profile.data if profile else DataSettings.model_validate(parameters["settings"])
        here["data_version"] = data.root, set_version(data)
    if profile and "base_version" in parameters:
        here["base_version"] = profile.base.source, base_version(profile.base)
    if profile and "start_version" in parameters:
        here["start_version"] = profile.pretrain.start or "", start_version(profile)
    for name, (place, found) in here.items():
        if found != parameters[name]:
            raise DataError(
                f"{place} is {found} in this pod, and the run was started with "
                f"{parameters[name]}: the image's .dvc files name another. `dvc add {place}` and "
                "`dvc push -r REMOTE` where the run was started, rebuild the image (`tudsr "
                "images`), and start a new run"
            )
    return [place for place, _ in here.values() if place]


def tracked(root: Path) -> list[Tracked]:
    """What DVC keeps of this project, from its ``.dvc`` files."""
    found: list[Tracked] = []
    for file in sorted(path for pattern in _TRACKED for path in root.glob(pattern)):
        if file.is_file():
            for out in yaml.safe_load(file.read_text(encoding="utf-8"))["outs"]:
                place = (file.parent / out["path"]).relative_to(root)
                found.append(Tracked(place.as_posix(), out["md5"]))
    return found


def remote_url(root: Path) -> str:
    """The remote's address: ``TUDSR_DVC_REMOTE``, else the default one of ``.dvc/config``.

    Raises:
        DataError: neither says one.
    """
    if os.environ.get(REMOTE):
        return os.environ[REMOTE]
    config = configparser.ConfigParser()
    config.read(root / ".dvc" / "config", encoding="utf-8")
    name = config.get("core", "remote", fallback="")
    url = config.get(f"'remote \"{name}\"'", "url", fallback="")
    if not url:
        raise DataError(f"no DVC remote: set {REMOTE}, or core.remote in .dvc/config")
    return url if "://" in url else str((root / ".dvc" / url).resolve())


def _fetch(out: Tracked, place: Path, url: str) -> None:
    """Into a temporary folder beside ``place``, then renamed; whoever comes second discards his."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name[:40]}.") as temporary:
        made = Path(temporary) / "content"
        listing = made.with_name("listing") if out.md5.endswith(".dir") else made
        _download(url, out.md5, listing)
        if listing != made:
            for entry in json.loads(listing.read_text(encoding="utf-8")):
                _download(url, entry["md5"], made / _inside(entry["relpath"], out))
        try:
            made.rename(place)
        except OSError:
            if not place.exists():
                raise


def _inside(relative: str, out: Tracked) -> Path:
    """A listing comes from outside: its paths must not lead out of the folder."""
    path = Path(relative)
    if path.is_absolute() or ".." in path.parts:
        raise DataError(f"the listing of {out.path} ({out.md5}) names {relative!r}, outside of it")
    return path


def _download(url: str, md5: str, target: Path) -> None:
    import fsspec

    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        system, base = fsspec.core.url_to_fs(url)
        with (
            system.open(f"{base.rstrip('/')}/files/md5/{md5[:2]}/{md5[2:]}", "rb") as source,
            target.open("wb") as file,
        ):
            shutil.copyfileobj(source, file, 1 << 20)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, ImportError) as error:
        raise DataError(
            f"{md5} cannot be read from the DVC remote {url}: {error or type(error).__name__}. "
            f"Run `dvc push -r REMOTE` where the data is, or set {REMOTE} to a remote that has it"
        ) from None
    with target.open("rb") as file:
        got = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if got != md5.removesuffix(".dir"):
        raise DataError(
            f"the DVC remote {url} holds other content under {md5} (its hash is {got}): remove "
            "that file there and run `dvc push` again"
        )


def _texts(value: Any) -> Iterator[str]:
    """All texts in nested settings."""
    if hasattr(value, "model_dump"):
        value = value.model_dump(mode="json")
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)
