"""ZenML's ``pod_settings`` of a step: what Kubeflow can pass on, and a refusal of the rest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError
from zenml.integrations.kubernetes.pod_settings import KubernetesPodSettings

from pipelines.kubeflow.pools import Toleration
from tudsr.errors import SettingsError

_PASSED_ON = ("node_selectors", "affinity", "tolerations", "labels", "annotations")


@dataclass(frozen=True)
class PodExtras:
    """What ``pod_settings`` add to the pool's own.

    Attributes:
        node_expressions: required node affinity, as Kubernetes' match expressions.
    """

    node_selectors: dict[str, str] = field(default_factory=dict)
    node_expressions: list[dict[str, Any]] = field(default_factory=list)
    tolerations: list[Toleration] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)


def pod_extras(step: str, settings: KubernetesPodSettings | None) -> PodExtras:
    """Read a step's ``pod_settings``.

    Raises:
        SettingsError: a field is set that Kubeflow has no place for; it would be lost silently.
    """
    if settings is None:
        return PodExtras()
    given = settings.model_dump(exclude_defaults=True)
    lost = sorted(given.keys() - set(_PASSED_ON))
    if lost:
        raise SettingsError(
            f"{step}: Kubeflow cannot pass on pod_settings {', '.join(lost)}. It can: "
            f"{', '.join(_PASSED_ON)}; resources, secrets, volume and user have settings of "
            "their own"
        )
    return PodExtras(
        node_selectors=settings.node_selectors,
        node_expressions=_expressions(step, settings.affinity),
        tolerations=[_toleration(step, each) for each in settings.tolerations],
        labels=settings.labels,
        annotations=settings.annotations,
    )


def _toleration(step: str, given: dict[str, Any]) -> Toleration:
    renamed = {"tolerationSeconds": "toleration_seconds"}
    try:
        return Toleration(**{renamed.get(key, key): value for key, value in given.items()})
    except ValidationError as error:
        told = error.errors()[0]
        raise SettingsError(
            f"{step}: toleration {given}: {told['loc']}: {told['msg']}; it takes key, operator, "
            "value, effect and tolerationSeconds, as in a PodSpec"
        ) from None


def _expressions(step: str, affinity: dict[str, Any]) -> list[dict[str, Any]]:
    """A required node affinity of one term: all that Kubeflow has a field for."""
    if not affinity:
        return []
    node = affinity.get("nodeAffinity") or {}
    required = node.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = required.get("nodeSelectorTerms") or []
    others = [key for key, value in affinity.items() if value and key != "nodeAffinity"]
    if others or len(node) != 1 or len(terms) != 1 or set(terms[0]) != {"matchExpressions"}:
        raise SettingsError(
            f"{step}: of affinity, only a nodeAffinity that is required and has one term of "
            "matchExpressions can be passed on; use the pool's node_affinity for the rest"
        )
    return list(terms[0]["matchExpressions"])
