"""Kinds for which a package has typed models: kubeflow-trainer-api 2.3 and cloudcoil's of KEDA 2.16
and Prometheus Operator 0.80."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from deploy.manifests import Manifest


def check(manifest: Manifest) -> None:
    """Hold an object against its model.

    The models drop fields that they do not know, so what comes out must be what went in.

    Raises:
        ValueError: a field is unknown, missing or of another type.
    """
    made = KINDS[manifest["apiVersion"], manifest["kind"]](manifest)
    lost = sorted(_paths(manifest) - _paths(made))
    if lost:
        raise ValueError(f"unknown fields: {', '.join(lost)}")


def _train_job(manifest: Manifest) -> Any:
    from kubeflow_trainer_api.models import TrainerV1alpha1TrainJob

    return _required(TrainerV1alpha1TrainJob.from_dict(manifest)).to_dict()


def _training_runtime(manifest: Manifest) -> Any:
    from kubeflow_trainer_api.models import TrainerV1alpha1TrainingRuntime

    return _required(TrainerV1alpha1TrainingRuntime.from_dict(manifest)).to_dict()


def _scaled_object(manifest: Manifest) -> Any:
    from cloudcoil.models.keda.v1alpha1 import ScaledObject

    return _dumped(ScaledObject.model_validate(manifest))


def _service_monitor(manifest: Manifest) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fields of these models shadow pydantic's own names
        from cloudcoil.models.prometheus_operator.v1 import ServiceMonitor

    return _dumped(ServiceMonitor.model_validate(manifest))


KINDS: dict[tuple[str, str], Callable[[Manifest], Any]] = {
    ("trainer.kubeflow.org/v1alpha1", "TrainJob"): _train_job,
    ("trainer.kubeflow.org/v1alpha1", "TrainingRuntime"): _training_runtime,
    ("keda.sh/v1alpha1", "ScaledObject"): _scaled_object,
    ("monitoring.coreos.com/v1", "ServiceMonitor"): _service_monitor,
}


def _required(made: Any) -> Any:
    if made.spec is None:
        raise ValueError("spec: Field required")
    return made


def _dumped(made: Any) -> Any:
    return made.model_dump(mode="json", by_alias=True, exclude_unset=True)


def _paths(value: Any, path: str = "") -> set[str]:
    if isinstance(value, dict):
        return {p for key, inner in value.items() for p in _paths(inner, f"{path}.{key}")} | {path}
    if isinstance(value, list):
        return {p for n, item in enumerate(value) for p in _paths(item, f"{path}.{n}")} | {path}
    return {path}
