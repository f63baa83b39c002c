"""Registered versions of the model in MLflow: aliases, never stages; folders, never pickles.

A bundle's folder is logged as artifacts of a run and a model version points at it. What the alias
``champion`` points at is what is served, whoever moved it there.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from tudsr.errors import GateClosedError, ModelError, RegistryError
from tudsr.images.atomic import writing_dir
from tudsr.places import outputs_dir
from tudsr.profile import RegistrySettings
from tudsr.provenance import file_sha256
from tudsr.release.bundle import MANIFEST, BundleManifest, load_bundle
from tudsr.release.ledger import Ledger, file_lock
from tudsr.tracking import experiment_id, tracking_uri, without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION = "champion"
CHALLENGER = "challenger"


class RegisteredVersion(BaseModel):
    """A version of the model as MLflow has it.

    Attributes:
        created: time in UTC, ISO 8601.
        tags: the version's tags, see ``tags_of``.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    version: str
    aliases: tuple[str, ...]
    run_id: str | None
    created: str
    tags: dict[str, str]

    @property
    def bundle_hash(self) -> str:
        """The registered bundle's identity; empty for a version that is none of ours."""
        return self.tags.get("bundle_hash", "")


def register(
    bundle_dir: Path, run_id: str | None, tags: Mapping[str, str], settings: RegistrySettings
) -> RegisteredVersion:
    """Register a bundle as ``challenger``; a bundle that is registered already is not again.

    When the same bundle was held against another champion meanwhile, the existing version gets the
    new comparison; nothing else about it changes. One that is champion itself keeps its own.

    Args:
        bundle_dir: a bundle, see ``tudsr.release.bundle``.
        run_id: the MLflow run that made it; None makes a run for it.
        tags: further tags of the version, such as the Bento's.
        settings: the model's and the experiment's names.

    Raises:
        ModelError: a damaged bundle.
        GateClosedError: the gate refused the model.
        RegistryError: MLflow cannot be reached or refuses.
    """
    manifest = load_bundle(bundle_dir)
    described = {**tags, **tags_of(bundle_dir, manifest)}
    if described["gate"] != "open":
        raise GateClosedError(f"the gate refused {bundle_dir}: a closed gate stops registration")
    # One lock with promotion: it must not take the alias from a challenger that came meanwhile, and
    # two pipelines register in turn, so that one bundle stays one version.
    with Ledger().locked(), registry_client() as client:
        _ensure_model(client, settings.model_name)
        found = _by_hash(client, settings.model_name, manifest.bundle_hash)
        if found is None:
            found = _create(client, bundle_dir, run_id, described, settings)
        else:
            _refresh_comparison(client, found, described)
        if not {CHAMPION, CHALLENGER} & set(found.aliases):
            client.set_registered_model_alias(found.name, CHALLENGER, found.version)
        return _version(client, found.name, found.version)


def champion(name: str) -> RegisteredVersion | None:
    """The version that the alias ``champion`` points at, or None."""
    return by_alias(name, CHAMPION)


def by_alias(name: str, alias: str) -> RegisteredVersion | None:
    """The version that an alias points at, or None."""
    return next((v for v in list_versions(name) if alias in v.aliases), None)


def list_versions(name: str) -> list[RegisteredVersion]:
    """All versions with their aliases, oldest first; none where nothing was registered.

    Raises:
        RegistryError: MLflow cannot be reached.
    """
    if is_unused():
        return []
    with registry_client() as client:
        return versions_by(client, name)


def fetch(version: RegisteredVersion) -> Path:
    """The version's bundle in ``outputs/cache/bundles``, downloaded once and checked each time.

    Raises:
        RegistryError: the version or its artifacts cannot be had.
        ModelError: what was downloaded is not the bundle that was registered.
    """
    if not version.bundle_hash:
        raise RegistryError(
            f"version {version.version} of {version.name} is no bundle of tudsr: it has no tag "
            "bundle_hash. Register one with `make run`"
        )
    folder = cached_bundle(version.bundle_hash)
    with file_lock(folder.with_name(f"{folder.name}.lock")):
        if not is_intact(folder, version.tags):
            _download(version, folder)
    return folder


def cached_bundle(bundle_hash: str) -> Path:
    """Where a fetched bundle lies."""
    return outputs_dir() / "cache" / "bundles" / bundle_hash


def is_intact(folder: Path, tags: Mapping[str, str]) -> bool:
    """Whether the folder holds exactly the bundle that these tags describe."""
    try:
        load_bundle(folder)
    except ModelError:
        return False
    return file_sha256(folder / MANIFEST) == tags.get("bundle_json")


def is_unused() -> bool:
    """Whether the registry is the default file and does not exist yet: no need to ask MLflow."""
    uri = tracking_uri()
    return uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists()


def tags_of(bundle_dir: Path, manifest: BundleManifest) -> dict[str, str]:
    """The tags that a version gets from its bundle: identity, lineage, gate and metrics."""
    from tudsr.release.tags import gate_tags, lineage_tags

    return {
        "bundle_hash": manifest.bundle_hash,
        "bundle_json": file_sha256(bundle_dir / MANIFEST),
        **lineage_tags(manifest),
        **gate_tags(bundle_dir / "gate.json"),
    }


@contextmanager
def registry_client() -> Generator[MlflowClient]:
    """A client; whatever MLflow raises inside becomes a RegistryError with the remedy."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", str(sys.stderr.isatty()))
    uri = tracking_uri()
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        yield MlflowClient(tracking_uri=uri)
    except MlflowException as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        where = os.environ.get("MLFLOW_TRACKING_URI", "outputs/mlflow.db")
        raise RegistryError(
            without_password(
                f"the registry {where} refused: {said}. Check that it is up, or unset "
                "MLFLOW_TRACKING_URI to use the local one"
            )
        ) from error


def versions_by(client: MlflowClient, name: str) -> list[RegisteredVersion]:
    """All versions of a model with their aliases, oldest first."""
    # A search leaves the aliases out; the model's own record has them.
    models = client.search_registered_models(f"name = '{name}'")
    aliases: dict[str, str] = dict(models[0].aliases) if models else {}
    found = [
        _described(v, aliases)
        for v in client.search_model_versions(f"name = '{name}'", max_results=10_000)
    ]
    return sorted(found, key=lambda v: int(v.version))


def _described(found: Any, aliases: Mapping[str, str]) -> RegisteredVersion:
    created = datetime.fromtimestamp(found.creation_timestamp / 1000, UTC)
    return RegisteredVersion(
        name=found.name,
        version=str(found.version),
        aliases=tuple(sorted(a for a, v in aliases.items() if str(v) == str(found.version))),
        run_id=found.run_id or None,
        created=created.isoformat(timespec="seconds"),
        tags=dict(found.tags),
    )


def _version(client: MlflowClient, name: str, version: str) -> RegisteredVersion:
    return next(v for v in versions_by(client, name) if v.version == version)


def _by_hash(client: MlflowClient, name: str, bundle_hash: str) -> RegisteredVersion | None:
    return next((v for v in versions_by(client, name) if v.bundle_hash == bundle_hash), None)


def _ensure_model(client: MlflowClient, name: str) -> None:
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name, description="Twice upsampling-diffusion upscaler")


def _create(
    client: MlflowClient,
    bundle_dir: Path,
    run_id: str | None,
    tags: dict[str, str],
    settings: RegistrySettings,
) -> RegisteredVersion:
    """Upload the bundle, then make the version: a killed upload leaves no version behind."""
    own_run = run_id is None
    run_id = run_id or client.create_run(experiment_id(settings.experiment)).info.run_id
    folder = f"bundle-{tags['bundle_hash'][:12]}"
    client.log_artifacts(run_id, str(bundle_dir), folder)
    made = client.create_model_version(
        settings.model_name, source=f"runs:/{run_id}/{folder}", run_id=run_id, tags=tags
    )
    if own_run:
        client.set_terminated(run_id)
    return _version(client, settings.model_name, str(made.version))


def _refresh_comparison(
    client: MlflowClient, found: RegisteredVersion, described: Mapping[str, str]
) -> None:
    from tudsr.release.tags import COMPARISON

    if described["compared_with"] == found.version:
        return  # a champion beside itself: what it was promoted by stays
    for key in COMPARISON:
        if found.tags.get(key) != described[key]:
            client.set_model_version_tag(found.name, found.version, key, described[key])


def _download(version: RegisteredVersion, folder: Path) -> None:
    from mlflow.artifacts import download_artifacts

    with (
        registry_client() as client,
        tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch-") as parent,
        writing_dir(folder) as temporary,
    ):
        source = client.get_model_version_download_uri(version.name, version.version)
        got = Path(
            download_artifacts(artifact_uri=source, dst_path=parent, tracking_uri=tracking_uri())
        )
        for item in got.iterdir():
            item.rename(temporary / item.name)
        load_bundle(temporary)
        if not is_intact(temporary, version.tags):
            raise ModelError(
                f"version {version.version} of {version.name} in the registry is not the bundle "
                "that was registered: run `make run` to register it anew"
            )
