"""Model versions in the MLflow registry. Aliases, never stages: ``challenger`` and ``champion``.

Whatever ``champion`` points at is what is served, whoever moved it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from tudsr.errors import RegistryError
from tudsr.images.atomic import writing_dir
from tudsr.places import outputs_dir
from tudsr.release.bundle import load_bundle
from tudsr.tracking import experiment_id, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHAMPION, CHALLENGER = "champion", "challenger"
_BUNDLE = "bundle"


class RegisteredVersion(BaseModel):
    """A version in the registry.

    Attributes:
        tags: among them ``bundle_hash``, ``code``, ``data``, ``base``, ``profile``, ``gate`` and
            the metrics.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    version: str
    aliases: tuple[str, ...]
    tags: dict[str, str]
    created: int


def register(
    bundle: Path, name: str, experiment: str, run_id: str | None, tags: Mapping[str, str]
) -> RegisteredVersion:
    """Make ``bundle`` a version with alias ``challenger``; the same bundle again changes nothing.

    The bundle's files go to the artifacts of MLflow run ``run_id``, or of a new one.
    """
    manifest = load_bundle(bundle)
    client = _client()
    _ensure_model(client, name)
    for known in list_versions(name):
        if known.tags.get("bundle_hash") == manifest.bundle_hash:
            return known
    run = run_id or client.create_run(experiment_id(experiment), run_name="register").info.run_id
    client.log_artifacts(run, str(bundle), _BUNDLE)
    source = f"{client.get_run(run).info.artifact_uri}/{_BUNDLE}"
    all_tags = {**tags, "bundle_hash": manifest.bundle_hash}
    made = client.create_model_version(name, source, run, tags=all_tags)
    client.set_registered_model_alias(name, CHALLENGER, made.version)
    if run_id is None:
        client.set_terminated(run)
    return get_version(name, str(made.version))


def champion(name: str) -> RegisteredVersion | None:
    """The version that ``champion`` points at now, or None."""
    return by_alias(name, CHAMPION)


def by_alias(name: str, alias: str) -> RegisteredVersion | None:
    """The version an alias points at, or None."""
    return next((v for v in list_versions(name) if alias in v.aliases), None)


def get_version(name: str, version: str) -> RegisteredVersion:
    """One version.

    Raises:
        RegistryError: no such version; names those there are.
    """
    versions = list_versions(name)
    found = next((v for v in versions if v.version == version), None)
    if found is None:
        have = ", ".join(v.version for v in versions) or "none: run `make run`"
        raise RegistryError(f"model {name!r} has no version {version!r}; there are {have}")
    return found


def list_versions(name: str) -> list[RegisteredVersion]:
    """All versions of a model, oldest first."""
    client = _client()
    found = client.search_registered_models(filter_string=f"name = '{name}'")
    if not found:
        return []
    aliases: dict[str, list[str]] = {}
    for alias, version in found[0].aliases.items():
        aliases.setdefault(str(version), []).append(alias)
    versions = client.search_model_versions(f"name = '{name}'")
    return sorted((_describe(v, aliases) for v in versions), key=lambda v: int(v.version))


def set_champion(name: str, version: str) -> None:
    """Point ``champion`` at a version."""
    _client().set_registered_model_alias(name, CHAMPION, version)


def clear_champion(name: str) -> None:
    """Take the alias ``champion`` away."""
    _client().delete_registered_model_alias(name, CHAMPION)


def fetch(version: RegisteredVersion) -> Path:
    """The folder of a version's bundle, downloaded once and verified every time."""
    target = outputs_dir() / "cache" / "bundles" / version.tags["bundle_hash"]
    if not target.is_dir():
        from mlflow.artifacts import download_artifacts

        uri = _client().get_model_version_download_uri(version.name, version.version)
        with writing_dir(target) as folder:
            download_artifacts(artifact_uri=uri, dst_path=str(folder), tracking_uri=tracking_uri())
            inner = folder / _BUNDLE
            for path in list(inner.iterdir()) if inner.is_dir() else []:
                path.rename(folder / path.name)
            if inner.is_dir():
                inner.rmdir()
    load_bundle(target)
    return target


def gate_record(version: RegisteredVersion) -> dict[str, object]:
    """The gate's verdict as it was registered."""
    return json.loads((fetch(version) / "gate.json").read_text(encoding="utf-8"))


def _client() -> MlflowClient:
    import logging

    tracking = tracking_uri()
    for noisy in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    from mlflow import MlflowClient

    return MlflowClient(tracking, tracking)


def _ensure_model(client: MlflowClient, name: str) -> None:
    if not client.search_registered_models(filter_string=f"name = '{name}'"):
        client.create_registered_model(name, description="TUDSR super-resolution models")


def _describe(version: ModelVersion, aliases: Mapping[str, list[str]]) -> RegisteredVersion:
    number = str(version.version)
    return RegisteredVersion(
        name=version.name,
        version=number,
        aliases=tuple(sorted(aliases.get(number, []))),
        tags=dict(version.tags),
        created=int(version.creation_timestamp or 0),
    )
