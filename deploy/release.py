"""What the endpoint serves, as three values, and the manifests that say so.

Manifests are a function of an overlay and a release, so that every command (apply, canary, promote,
abort) is: read the release, change a value, apply what follows.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from deploy.manifests import Manifest
from tudsr.errors import SettingsError

CHAMPION, CHALLENGER, ROUTE = "tudsr-champion", "tudsr-challenger", "tudsr"
CONTAINER, VARIABLE = "serve", "TUDSR_MODEL"


class Release(BaseModel):
    """Which versions are served and how traffic is shared.

    Attributes:
        champion: the version that all but the canary's share goes to; None follows MLflow's alias.
        challenger: the version under trial, None for none.
        weight: the challenger's share, percent.
        replicas: the challenger's pods.
    """

    model_config = ConfigDict(frozen=True)

    champion: str | None = None
    challenger: str | None = None
    weight: int = Field(default=0, ge=0, le=100)
    replicas: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _nobody_is_sent_nowhere(self) -> Release:
        if self.weight and not (self.challenger and self.replicas):
            raise ValueError("traffic needs a challenger with pods")
        return self


def released(objects: Iterable[Manifest], release: Release) -> list[Manifest]:
    """An overlay's objects, saying this release; what was given is not changed."""
    made = [copy.deepcopy(one) for one in objects]
    _set_version(find(made, "Deployment", CHAMPION), release.champion)
    challenger = find(made, "Deployment", CHALLENGER)
    _set_version(challenger, release.challenger)
    challenger["spec"]["replicas"] = release.replicas
    backends = find(made, "HTTPRoute", ROUTE)["spec"]["rules"][0]["backendRefs"]
    shares = {CHAMPION: 100 - release.weight, CHALLENGER: release.weight}
    for backend in backends:
        backend["weight"] = shares[backend["name"]]
    return made


def running(
    champion: Manifest | None, challenger: Manifest | None, route: Manifest | None
) -> Release:
    """The release that objects of a cluster say; those that are missing say nothing."""
    spec = (challenger or {}).get("spec", {})
    replicas = int(spec.get("replicas", 0))
    weight = 0
    for rule in (route or {}).get("spec", {}).get("rules", []):
        shares = {b["name"]: int(b.get("weight", 1)) for b in rule.get("backendRefs", [])}
        if shares.get(CHALLENGER):
            weight = round(100 * shares[CHALLENGER] / sum(shares.values()))
    return Release.model_construct(
        champion=_version(champion),
        challenger=_version(challenger) if replicas else None,
        weight=weight,
        replicas=replicas,
    )


def find(objects: Iterable[Manifest], kind: str, name: str) -> Manifest:
    """The object of this kind and name.

    Raises:
        SettingsError: there is none: the overlay is not of this project.
    """
    for one in objects:
        if one["kind"] == kind and one["metadata"]["name"] == name:
            return one
    raise SettingsError(f"the overlay has no {kind} {name}, which `tudsr deploy` works with")


def _set_version(deployment: Manifest, version: str | None) -> None:
    environment = _serve(deployment).setdefault("env", [])
    environment[:] = [entry for entry in environment if entry["name"] != VARIABLE]
    if version is not None:
        environment.append({"name": VARIABLE, "value": version})


def _version(deployment: Manifest | None) -> str | None:
    if deployment is None:
        return None
    named = {e["name"]: e.get("value") for e in _serve(deployment).get("env", [])}
    return named.get(VARIABLE)


def _serve(deployment: Manifest) -> dict[str, Any]:
    inside = deployment["spec"]["template"]["spec"]["containers"]
    return next(c for c in inside if c["name"] == CONTAINER)
