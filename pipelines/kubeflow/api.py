"""Kubeflow's API: its client with a time limit, and errors that say what to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

import urllib3
from kfp_server_api.exceptions import ApiException, ApiValueError
from zenml.enums import ExecutionStatus

from tudsr.errors import TudsrError

Answer = TypeVar("Answer")

BACKENDS = "Kubeflow Pipelines 2.14 to 2.16 (API v2beta1)"
_TRIES = 3
_PAUSE_S = 1.0
_POLL_S = 5.0
_STATES = {
    "PENDING": ExecutionStatus.PROVISIONING,
    "RUNNING": ExecutionStatus.RUNNING,
    "SUCCEEDED": ExecutionStatus.COMPLETED,
    "SKIPPED": ExecutionStatus.COMPLETED,
    "FAILED": ExecutionStatus.FAILED,
    "CANCELING": ExecutionStatus.STOPPING,
    "CANCELED": ExecutionStatus.STOPPED,
    "PAUSED": ExecutionStatus.PAUSED,
}


class KubeflowError(TudsrError):
    """Kubeflow cannot be reached, refuses, or reports that a run failed."""


@contextmanager
def explained(where: str) -> Generator[None]:
    """Turn what the client raises into one sentence.

    Raises:
        KubeflowError: with the address, what it answered, and the remedy.
    """
    try:
        yield
    except ApiException as error:
        raise KubeflowError(_explain(where, error)) from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise KubeflowError(
            f"Kubeflow at {where} does not answer ({type(error).__name__}). Nothing was submitted. "
            "Check kubeflow_hostname or kubernetes_context of the orchestrator, and that its API "
            "server runs: kubectl get pods -n kubeflow -l app=ml-pipeline"
        ) from error
    except ApiValueError as error:
        raise KubeflowError(
            f"Kubeflow at {where} answers in another form than its client expects ({error}); this "
            f"flavor is meant for {BACKENDS}"
        ) from error


def tried_again(ask: Callable[[], Answer]) -> Answer:
    """Ask up to three times while the server fails by itself; only for what may be asked twice."""
    for pause in [_PAUSE_S * 2**n for n in range(_TRIES - 1)]:
        try:
            return ask()
        except ApiException as error:
            if (error.status or 0) < 500:
                raise
        except urllib3.exceptions.HTTPError:
            pass
        time.sleep(pause)
    return ask()


def created(client: Any, experiment_id: str, name: str, create: Callable[[], str]) -> str:
    """Create a run; when the answer is lost, look whether it was created before giving up.

    A second request could start a second run, so none is sent.

    Returns:
        The run's id.
    """
    try:
        return create()
    except (ApiException, urllib3.exceptions.HTTPError) as error:
        if isinstance(error, ApiException) and (error.status or 0) < 500:
            raise
        found = tried_again(lambda: client.list_runs(experiment_id=experiment_id, page_size=100))
        for run in found.runs or []:
            if run.display_name == name:
                return run.run_id
        raise


def wait(client: Any, run_id: str, timeout_s: float, where: str) -> None:
    """Wait until a run has ended well.

    Raises:
        KubeflowError: it failed, was cancelled, or did not end in time.
    """
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        with explained(where):
            run = tried_again(lambda: client.get_run(run_id))
        status = status_of(run)
        if status == ExecutionStatus.COMPLETED:
            return
        if status in (ExecutionStatus.FAILED, ExecutionStatus.STOPPED):
            raise KubeflowError(f"run {run_id} on {where} {_ending(run)}")
        time.sleep(_POLL_S)
    raise KubeflowError(
        f"run {run_id} on {where} has not ended within {timeout_s:g} s; it goes on there. Raise "
        "timeout of the orchestrator to wait longer, or set synchronous to false"
    )


def status_of(run: Any) -> ExecutionStatus | None:
    """ZenML's word for a run's state; None for a state it has no word for."""
    return _STATES.get(str(run.state or "PENDING"))


def _ending(run: Any) -> str:
    ended = "was cancelled" if str(run.state) == "CANCELED" else "failed"
    reason = getattr(run.error, "message", None) if run.error else None
    return ended + (f": {reason}" if reason else "; the steps' logs in ZenML say why")


def _explain(where: str, error: ApiException) -> str:
    said = f"Kubeflow at {where} answers {error.status} {error.reason or ''}".rstrip()
    if error.status == 401:
        return (
            f"{said}: the token is missing, wrong or expired. Nothing was submitted. Get a new one "
            "and store it: zenml secret update kubeflow --values api_token=..."
        )
    if error.status == 403:
        return (
            f"{said}: this user may not do that there. Nothing was submitted. Set user_namespace "
            "to a namespace of yours, or ask for the role kubeflow-edit in it"
        )
    if error.status == 404:
        return f"{said}: not a Kubeflow API, or not of {BACKENDS}. Check kubeflow_hostname"
    if (error.status or 0) >= 500:
        return (
            f"{said}, {_TRIES} times where it may be asked again. Look at its logs, then try again"
        )
    return f"{said}: {error.body}"
