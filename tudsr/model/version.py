"""The identity of a base and of trunks, without loading them (and without torch)."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tudsr.errors import ModelError
from tudsr.profile import BaseSettings, Profile
from tudsr.provenance import file_sha256


def base_version(settings: BaseSettings) -> str:
    """SHA-256 of a base's ``base.json`` (which holds every file's hash), or its random recipe.

    Raises:
        ModelError: no base there.
    """
    if settings.random_seed is not None:
        return f"random-{settings.arch}-{settings.random_seed}"
    folder = Path(settings.source)
    if (folder / "base.json").is_file():
        return file_sha256(folder / "base.json")
    if not (folder / "unet").is_dir():
        raise ModelError(
            f"no base at {settings.source!r}: run `dvc pull` to fetch the one that comes with the "
            "project, `tudsr base import` for Stable Diffusion's, `tudsr train base` to make one, "
            "or set base.source to a folder"
        )
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(folder)} {file_sha256(file)}\n".encode())
    return digest.hexdigest()


def start_version(profile: Profile) -> str:
    """The same of the base that pre-training starts from; empty where it starts from nothing.

    Raises:
        ModelError: no base there.
    """
    start = profile.pretrain.start
    if start is None:
        return ""
    return base_version(profile.base.model_copy(update={"source": start, "random_seed": None}))


def weights_at(*places: str | None) -> list[Path]:
    """Weights of trunks that lie in a file or folder here; what the hub or a package has do not."""
    found: list[Path] = []
    for place in dict.fromkeys(Path(path) for path in places if path is not None):
        found += [place] if place.is_file() else sorted(place.glob("*.safetensors"))
    return found


def trunks_version(*places: str | None) -> str:
    """SHA-256 over the weights that ``weights_at`` finds, in that order; empty where it finds none.

    Raises:
        OSError: weights that cannot be read.
    """
    files = weights_at(*places)
    listed = "".join(f"{file.name} {file_sha256(file)}\n" for file in files)
    return hashlib.sha256(listed.encode()).hexdigest() if files else ""
