"""The flavor ``tudsr_kubeflow``: what a component of it and its steps can be told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator
from zenml.integrations.kubeflow.flavors.kubeflow_orchestrator_flavor import (
    KubeflowOrchestratorConfig,
    KubeflowOrchestratorFlavor,
    KubeflowOrchestratorSettings,
)
from zenml.utils.secret_utils import SecretField

from pipelines.kubeflow.secrets import DEFAULT, DEFAULT_CONFIG_MAPS
from pipelines.placement import FLAVOR

if TYPE_CHECKING:
    from pipelines.kubeflow.orchestrator import PoolsOrchestrator

_WEEK_S = 7 * 24 * 3600


class PoolsSettings(KubeflowOrchestratorSettings):
    """What can be set per step and per pipeline, beside ZenML's ``ResourceSettings``."""

    pool: str = Field("cpu", description="node pool of k8s/pools.yaml")
    shm_gib: float = Field(0, ge=0, description="shared memory at /dev/shm, GiB; 0: none mounted")
    timeout_s: int = Field(3600, gt=0, description="longest time of one attempt, seconds")
    timeout: int = Field(_WEEK_S, description="how long a synchronous run is waited for, seconds")

    @model_validator(mode="before")
    @classmethod
    def _validate_and_migrate_pod_settings(cls, data: Any) -> Any:
        """Keep ``pod_settings``; the parent's validator of this name replaces them."""
        if isinstance(data, dict):
            user, password = data.get("client_username"), data.get("client_password")
            if (user is None) != (password is None):
                raise ValueError("client_username and client_password are set together or not")
        return data


class PoolsConfig(KubeflowOrchestratorConfig, PoolsSettings):
    """What is set once, when the component is registered."""

    secrets: dict[str, list[str]] = Field(
        default=DEFAULT,
        description="Kubernetes Secrets that every step gets: name to keys, each the name of an "
        "environment variable. Values never enter the specification",
    )
    config_maps: dict[str, list[str]] = Field(
        default=DEFAULT_CONFIG_MAPS,
        description="ConfigMaps that every step gets, likewise: addresses, which are no secrets",
    )
    checkpoint_claim: str | None = Field(
        None, description="PersistentVolumeClaim for checkpoints, outcomes and fetched data"
    )
    checkpoint_mount: str = Field("/var/tudsr", description="where it is mounted")
    api_token: str | None = SecretField(
        default=None, description="token for the Kubeflow API; best a reference to a ZenML secret"
    )
    api_timeout_s: float = Field(30, gt=0, description="longest wait for an answer, seconds")
    run_as_user: int = Field(1000, ge=1, description="user id of the steps' processes, not root")
    run_as_group: int = Field(1000, ge=1, description="group id of the steps' processes")
    pod_labels: dict[str, str] = Field(
        default={}, description="labels of every pod, such as kueue.x-k8s.io/queue-name"
    )
    retry_delay_s: int = Field(60, ge=0, description="wait before the first retry, seconds")

    @property
    def handles_step_retries(self) -> bool:
        """Kubeflow starts the pods again, not ZenML inside the pod."""
        return True


class PoolsFlavor(KubeflowOrchestratorFlavor):
    """Registered with ``zenml orchestrator flavor register``."""

    @property
    def name(self) -> str:
        """The name to give with ``--flavor``."""
        return FLAVOR

    @property
    def config_class(self) -> type[PoolsConfig]:
        """The component's configuration."""
        return PoolsConfig

    @property
    def implementation_class(self) -> type[PoolsOrchestrator]:
        """The orchestrator itself, which imports kfp."""
        from pipelines.kubeflow.orchestrator import PoolsOrchestrator

        return PoolsOrchestrator
