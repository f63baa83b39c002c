"""What runs in a step's container: ZenML's own entrypoint, with attempts recorded around it."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING

from zenml.constants import ENV_ZENML_ACTIVE_PROJECT_ID, ENV_ZENML_ACTIVE_STACK_ID
from zenml.entrypoints import StepEntrypointConfiguration
from zenml.exceptions import RunInterruptedException, RunStoppedException

from pipelines.kubeflow.attempts import VOLUME, attempts_of, run_folder
from tudsr.profile import PROJECT_ROOT

if TYPE_CHECKING:
    from zenml.config.step_configurations import Step
    from zenml.models import PipelineSnapshotResponse

RUN_ID_OPTION = "orchestrator_run_id"
ENV_RUN_ID = "KFP_RUN_ID"
SOURCE = "pipelines.kubeflow.entrypoint.PoolStep"
COMMAND = ("python", "-m", "zenml.entrypoints.entrypoint")


class PoolStep(StepEntrypointConfiguration):
    """One step of a snapshot, as one attempt of a Kubeflow task."""

    @classmethod
    def get_entrypoint_options(cls) -> dict[str, bool]:
        """ZenML's options and the id of the Kubeflow run."""
        return super().get_entrypoint_options() | {RUN_ID_OPTION: True}

    def prepare_code_environment(self) -> None:
        """Work where the code is; the image holds it, so nothing is downloaded."""
        os.chdir(PROJECT_ROOT)
        if str(PROJECT_ROOT) not in sys.path:
            sys.path.insert(0, str(PROJECT_ROOT))

    def _run_step(self, step: Step, snapshot: PipelineSnapshotResponse) -> None:
        run_id = self.entrypoint_args[RUN_ID_OPTION]
        self._set_environment(run_id, snapshot)
        attempts = attempts_of(run_id, step.spec.invocation_id)
        stopped = (RunInterruptedException, RunStoppedException)
        with attempts.recorded(stopped) if attempts else nullcontext():
            super()._run_step(step, snapshot)

    def _set_environment(self, run_id: str, snapshot: PipelineSnapshotResponse) -> None:
        """The run, its stack, and where results and checkpoints go: the volume, if there is one."""
        os.environ[ENV_RUN_ID] = run_id
        os.environ.setdefault(ENV_ZENML_ACTIVE_PROJECT_ID, str(snapshot.project_id))
        if snapshot.stack:
            os.environ[ENV_ZENML_ACTIVE_STACK_ID] = str(snapshot.stack.id)
        folder = run_folder(run_id)
        if folder:
            # Not as the image has it: that is the volume itself, which all runs share.
            os.environ["TUDSR_OUTPUTS"] = str(folder / "outputs")
            # One for all runs, beside the registry that they share.
            os.environ.setdefault("TUDSR_LEDGER", f"{os.environ[VOLUME]}/ledger.jsonl")
            os.environ.setdefault("BENTOML_HOME", f"{os.environ[VOLUME]}/bentoml")
