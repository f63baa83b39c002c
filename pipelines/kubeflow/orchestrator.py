"""The orchestrator: ZenML's for Kubeflow, with pools, volumes, secrets, retries and errors.

Meant for Kubeflow Pipelines 2.14 to 2.16 (API v2beta1), with kfp 2.16 and ZenML 0.98.0. Of ZenML's
own class the client's connection and the validation of the stack are kept; the specification and
the submission are ours, since the stock ones drop pod settings and retries, put a token into the
specification, and log submission errors without raising them.
"""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from zenml.constants import METADATA_ORCHESTRATOR_RUN_ID, METADATA_ORCHESTRATOR_URL
from zenml.enums import ExecutionStatus
from zenml.integrations.kubeflow.orchestrators import KubeflowOrchestrator
from zenml.logger import get_logger
from zenml.metadata.metadata_types import MetadataType, Uri
from zenml.orchestrators import SubmissionResult
from zenml.orchestrators.utils import get_orchestrator_run_name

from pipelines.kubeflow.api import explained, status_of, tried_again, wait
from pipelines.kubeflow.attempts import VOLUME, attempts_of, pod_name
from pipelines.kubeflow.client import connect
from pipelines.kubeflow.flavor import PoolsConfig, PoolsSettings
from pipelines.kubeflow.inputs import fetch_inputs, require_versions
from pipelines.kubeflow.pools import load_pools
from pipelines.kubeflow.specification import Cluster, write_specification
from pipelines.kubeflow.submission import start_run, start_schedule
from pipelines.kubeflow.tasks import tasks_of

if TYPE_CHECKING:
    from zenml.config.step_run_info import StepRunInfo
    from zenml.integrations.kubeflow.flavors.kubeflow_orchestrator_flavor import (
        KubeflowOrchestratorSettings,
    )
    from zenml.models import (
        PipelineRunResponse,
        PipelineSnapshotResponse,
        ScheduleResponse,
    )
    from zenml.stack import Stack

logger = get_logger(__name__)
SCHEDULE_ID = "recurring_run_id"


class PoolsOrchestrator(KubeflowOrchestrator):
    """Runs each ZenML step as a Kubeflow task on the node pool it asks for."""

    @property
    def config(self) -> PoolsConfig:
        """What the component was registered with."""
        return cast(PoolsConfig, self._config)

    @property
    def settings_class(self) -> type[PoolsSettings]:
        """What a step or pipeline may set."""
        return PoolsSettings

    @cached_property
    def cluster(self) -> Cluster:
        """What all tasks share, from the component's configuration."""
        config = self.config
        return Cluster(
            secrets=config.secrets,
            config_maps=config.config_maps,
            claim=config.checkpoint_claim,
            mount=config.checkpoint_mount,
            user=config.run_as_user,
            group=config.run_as_group,
            labels=config.pod_labels,
            retry_delay_s=config.retry_delay_s,
        )

    @property
    def where(self) -> str:
        """The cluster's name in messages."""
        return self.config.kubeflow_hostname or self.config.kubernetes_context or "the cluster"

    def submit_pipeline(
        self,
        snapshot: PipelineSnapshotResponse,
        stack: Stack,
        base_environment: dict[str, str],
        step_environments: dict[str, dict[str, str]],
        placeholder_run: PipelineRunResponse | None = None,
    ) -> SubmissionResult:
        """Check everything, write the specification, start a run or a schedule of it.

        Raises:
            SettingsError: something that could only fail on the cluster; nothing was submitted.
            KubeflowError: the API cannot be reached or refuses; the message says why.
        """
        settings = cast(PoolsSettings, self.get_settings(snapshot))
        name = get_orchestrator_run_name(snapshot.pipeline_configuration.name).replace("_", "-")
        file = Path(self.pipeline_directory) / f"{name}.yaml"
        tasks = tasks_of(self, snapshot, step_environments, load_pools())
        write_specification(name[:128], tasks, self.cluster, file, str(snapshot.id))
        with explained(self.where):
            client = self._get_kfp_client(settings)
            if snapshot.schedule:
                started = start_schedule(client, file, name, snapshot, settings.user_namespace)
                logger.info("Scheduled on %s as %s.", self.where, started)
                return SubmissionResult(metadata={SCHEDULE_ID: started})
            pipeline = snapshot.pipeline_configuration.name
            run_id = start_run(client, file, name, pipeline, settings.user_namespace)
        logger.info("Kubeflow run: %s", self._link(run_id, settings) or run_id)

        def wait_for_it() -> None:
            wait(client, run_id, settings.timeout, self.where)

        return SubmissionResult(
            wait_for_completion=wait_for_it if settings.synchronous else None,
            metadata=self._run_metadata(run_id, settings),
        )

    def _get_kfp_client(self, settings: KubeflowOrchestratorSettings) -> Any:
        """A client with this component's token and a limit on every answer."""
        connector = self.get_connector()
        user, password = settings.client_username, settings.client_password
        cookies = self._get_session_cookie(user, password) if user and password else None
        return connect(self.config, settings, connector and connector.connect(), cookies)

    def get_pipeline_run_metadata(self, run_id: UUID) -> dict[str, MetadataType]:
        """The link to the run, told once more by its first step."""
        settings = cast(PoolsSettings, self.get_settings(_zenml_run(run_id)))
        return self._run_metadata(self.get_orchestrator_run_id(), settings)

    def _run_metadata(self, run_id: str, settings: PoolsSettings) -> dict[str, MetadataType]:
        link = self._link(run_id, settings)
        metadata: dict[str, MetadataType] = {METADATA_ORCHESTRATOR_RUN_ID: run_id}
        return metadata | ({METADATA_ORCHESTRATOR_URL: Uri(link)} if link else {})

    def _link(self, run_id: str, settings: PoolsSettings) -> str | None:
        """The run's page; None where only a Kubernetes context is known."""
        host = (self.config.kubeflow_hostname or "").rstrip("/")
        if not host:
            return None
        if settings.user_namespace:
            shell = host.removesuffix("/pipeline")
            return f"{shell}/_/pipeline/?ns={settings.user_namespace}#/runs/details/{run_id}"
        return f"{host}/#/runs/details/{run_id}"

    def prepare_step_run(self, info: StepRunInfo) -> None:
        """In the pod, before the step: earlier outcomes, then what it needs, fetched and compared.

        Raises:
            FailedBeforeError: an earlier attempt ended with an error.
            DataError: data or base cannot be fetched, or are others than the run was started with.
        """
        attempts = attempts_of(self.get_orchestrator_run_id(), info.pipeline_step_name)
        if attempts:
            attempts.require_no_error()
        volume = os.environ.get(VOLUME)
        store = Path(volume) / "store" if volume else None
        for fetched in fetch_inputs(info.config.parameters, store=store):
            logger.info("Fetched %s by its hash.", fetched)
        for same in require_versions(info.config.parameters):
            logger.info("%s is what the run was started with.", same)

    def get_step_run_metadata(self, info: StepRunInfo) -> dict[str, MetadataType]:
        """Where the step ran, and where its logs are while the pod exists.

        ZenML keeps the logs of the step itself in the artifact store.
        """
        settings = cast(PoolsSettings, self.get_settings(info))
        namespace = settings.user_namespace or self.config.kubeflow_namespace
        logs = f"kubectl logs -n {namespace} {pod_name()} -c main"
        told: dict[str, MetadataType] = {"pod": pod_name(), "logs": logs}
        attempts = attempts_of(self.get_orchestrator_run_id(), info.pipeline_step_name)
        return told | ({"attempts": len(attempts.list())} if attempts else {})

    def fetch_status(
        self, run: PipelineRunResponse, include_steps: bool = False
    ) -> tuple[ExecutionStatus | None, dict[str, ExecutionStatus] | None]:
        """Kubeflow's word for the whole run; the steps' own is what they told ZenML."""
        with explained(self.where):
            client = self._get_kfp_client(cast(PoolsSettings, self.get_settings(run)))
            found = tried_again(lambda: client.get_run(_kubeflow_id(run)))
        return status_of(found), {} if include_steps else None

    def _stop_run(self, run: PipelineRunResponse, graceful: bool = False) -> None:
        """Terminate the run: its pods get SIGTERM, on which training saves and ends.

        Both kinds of stopping do this; what is saved stays on the checkpoint volume.
        """
        with explained(self.where):
            client = self._get_kfp_client(cast(PoolsSettings, self.get_settings(run)))
            tried_again(lambda: client.terminate_run(_kubeflow_id(run)))

    def delete_schedule(self, schedule: ScheduleResponse) -> None:
        """Delete the recurring run behind a ZenML schedule; runs of it go on."""
        known = schedule.run_metadata.get(SCHEDULE_ID)
        if not known:
            logger.warning("Schedule %s has no recurring run on Kubeflow.", schedule.name)
            return
        with explained(self.where):
            client = self._get_kfp_client(PoolsSettings.model_validate({}))
            client.delete_recurring_run(str(known))


def _kubeflow_id(run: Any) -> str:
    return str(run.orchestrator_run_id or run.run_metadata[METADATA_ORCHESTRATOR_RUN_ID])


def _zenml_run(run_id: UUID) -> PipelineRunResponse:
    from zenml.client import Client

    return Client().get_pipeline_run(run_id)
