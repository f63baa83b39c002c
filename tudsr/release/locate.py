"""Finding the bundle to use: a folder, a version, an alias, the champion, or the shipped model.

MLflow takes seconds to import and this must not: with the default registry (a SQLite file), the
alias and the bundle's hash are read from that file directly, and MLflow is imported only where the
bundle is not in the cache yet or the file's tables are not as expected. What is read is the
registry's own record, each time, so a moved alias is seen at once: nothing here can grow stale.
"""

from __future__ import annotations

import logging
import re
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from tudsr.errors import ModelError, RegistryError
from tudsr.profile import PROJECT_ROOT
from tudsr.release.bundle import MANIFEST, base_folder, load_bundle
from tudsr.release.registry import (
    CHAMPION,
    cached_bundle,
    champion,
    fetch,
    is_intact,
    is_unused,
    list_versions,
)
from tudsr.release.tags import SHIPPED_MODEL
from tudsr.tracking import tracking_uri

MODEL_NAME = "tudsr"
SHIPPED = PROJECT_ROOT / "models" / "small"
_LOG = logging.getLogger("tudsr.release")
# As `rival` names a bundle: which, and the first digits of its hash.
_WITH_HASH = re.compile(rf"(\d+|{SHIPPED_MODEL})-([0-9a-f]{{12}})")


@dataclass(frozen=True)
class Located:
    """A bundle and how it was found.

    Attributes:
        path: the bundle's folder.
        version: its number in the registry, None for a folder or the shipped model.
        how: ``folder``, ``registry`` or ``shipped``.
    """

    path: Path
    version: str | None
    how: str


def locate_model(model: str | None = None, name: str = MODEL_NAME) -> Path:
    """The folder of the bundle to use; see ``locate``."""
    return locate(model, name).path


def locate(model: str | None = None, name: str = MODEL_NAME) -> Located:
    """Find a bundle.

    Args:
        model: a bundle's folder, a version number, an alias, ``shipped`` for the model that comes
            with the repository, or None for the champion and, where there is none, that model.
            A number or ``shipped`` may have the bundle's hash behind it, as ``rival`` gives it.
        name: the registered model.

    Raises:
        ModelError: no such folder, nothing to fall back to, or a bundle of another hash.
        RegistryError: no such version or alias, or a registry that does not answer.
    """
    if model is not None and (Path(model) / MANIFEST).is_file():
        return Located(Path(model), None, "folder")
    if model is not None and _looks_like_path(model):
        raise ModelError(f"{model} is not a bundle: it has no {MANIFEST}")
    if model is not None and (both := _WITH_HASH.fullmatch(model)):
        return _of_hash(locate(both[1], name), both[2], model)
    if model == SHIPPED_MODEL:
        return _shipped()
    wanted = model or CHAMPION
    found = _cached(wanted, name) or _fetched(wanted, name)
    if found is not None:
        return found
    if model is None:
        return _shipped()
    raise RegistryError(_unknown(model, name))


def rival(name: str = MODEL_NAME, shipped_counts: bool = True) -> str | None:
    """What a new model is held against, in a form that ``locate`` takes; None where nothing is.

    The champion's version, else the model that comes with the repository, if it counts and its
    base is there; with the bundle's hash, since numbers begin anew in another registry.
    """
    current = champion(name)
    if current is not None:
        digits = current.bundle_hash[:12]  # a version that is none of ours has no hash
        return f"{current.version}-{digits}" if digits else current.version
    if not shipped_counts or not (SHIPPED / MANIFEST).is_file():
        return None
    shipped = load_bundle(SHIPPED, verify=False)
    try:
        base_folder(SHIPPED, shipped)
    except ModelError as error:
        _LOG.warning("a new model is held against none: %s", error)
        return None
    return f"{SHIPPED_MODEL}-{shipped.bundle_hash[:12]}"


def _of_hash(found: Located, digits: str, wanted: str) -> Located:
    """``found``, if its bundle's hash begins with these digits."""
    has = load_bundle(found.path, verify=False).bundle_hash[:12]
    if has != digits:
        raise ModelError(
            f"{wanted} is another bundle here, {has}: where the run was started, registry or code "
            "are others. Set MLFLOW_TRACKING_URI to the same in both places, build the image anew "
            "on a cluster, and start a new run"
        )
    return found


def _looks_like_path(model: str) -> bool:
    return "/" in model or "\\" in model or model.startswith(".") or Path(model).exists()


def _shipped() -> Located:
    if not (SHIPPED / MANIFEST).is_file():
        raise ModelError(
            "no model to use: none is champion, and the one that comes with the project is not "
            "there. `dvc pull` fetches it; `make run` and `tudsr promote` make one of your own; "
            "--model names a bundle's folder"
        )
    return Located(SHIPPED, None, "shipped")


def _cached(wanted: str, name: str) -> Located | None:
    """The bundle by the SQLite file and the cache alone, without MLflow; None if they do not do."""
    uri = tracking_uri()
    if not uri.startswith("sqlite:///") or is_unused():
        return None
    try:
        found = _read_sqlite(Path(uri.removeprefix("sqlite:///")), wanted, name)
    except sqlite3.Error:
        return None
    if found is None:
        return None
    version, tags = found
    folder = cached_bundle(tags.get("bundle_hash", "-"))
    return Located(folder, version, "registry") if is_intact(folder, tags) else None


def _read_sqlite(file: Path, wanted: str, name: str) -> tuple[str, dict[str, str]] | None:
    """(version, its tags) for a version number or an alias, from MLflow's tables."""
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        row = connection.execute(
            "SELECT v.version FROM model_versions v LEFT JOIN registered_model_aliases a "
            "ON a.name = v.name AND a.version = v.version AND a.alias = :wanted "
            "WHERE v.name = :name AND v.current_stage != 'Deleted_Internal' "
            "AND (a.alias IS NOT NULL OR CAST(v.version AS TEXT) = :wanted)",
            {"wanted": wanted, "name": name},
        ).fetchone()
        if row is None:
            return None
        tags = connection.execute(
            "SELECT key, value FROM model_version_tags WHERE name = ? AND version = ?",
            (name, row[0]),
        )
        return str(row[0]), dict(tags.fetchall())
    finally:
        connection.close()


def _fetched(wanted: str, name: str) -> Located | None:
    """The same through MLflow, which downloads what is not in the cache."""
    for version in list_versions(name):
        if wanted == version.version or wanted in version.aliases:
            return Located(fetch(version), version.version, "registry")
    return None


def _unknown(model: str, name: str) -> str:
    have = list_versions(name)
    known = sorted({alias for v in have for alias in v.aliases} | {v.version for v in have})
    listed = ", ".join(known) if known else "nothing; run `make run`"
    return f"{model!r} is no bundle's folder, version or alias of {name}. Registered: {listed}"
