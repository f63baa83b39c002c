"""kfp's client, made to answer within a time: by itself it waits for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kfp.client import Client
from zenml.integrations.kubeflow.orchestrators.kubeflow_orchestrator import KubeClientKFPClient

from pipelines.kubeflow.api import tried_again

if TYPE_CHECKING:
    from zenml.integrations.kubeflow.flavors.kubeflow_orchestrator_flavor import (
        KubeflowOrchestratorSettings,
    )

    from pipelines.kubeflow.flavor import PoolsConfig


class _Limited:
    """Every request has a time limit, and health is asked for as often as anything else.

    The parent asks five times over 25 s, whatever the answer, and then does not tell it.
    """

    _healthz_api: Any

    def __init__(self, timeout_s: float, **arguments: Any) -> None:
        self._timeout_s = timeout_s
        super().__init__(**arguments)

    def get_kfp_healthz(self, sleep_duration: int = 5) -> Any:
        """The first request of a client."""
        limit_time(self._healthz_api.api_client, self._timeout_s)
        return tried_again(self._healthz_api.healthz_service_get_healthz)


class PoolsClient(_Limited, Client):
    """By address or by Kubernetes context."""


class PoolsKubeClient(_Limited, KubeClientKFPClient):
    """By the Kubernetes client of a ZenML service connector."""


def connect(
    config: PoolsConfig,
    settings: KubeflowOrchestratorSettings,
    kubernetes: Any,
    cookies: str | None,
):
    """A client for a component's cluster.

    Args:
        kubernetes: a connector's Kubernetes client, None where no connector is linked.
        cookies: a session's, where the API wants a user and a password.
    """
    arguments = {**settings.client_args, "namespace": config.kubeflow_namespace}
    if config.api_token:
        arguments["existing_token"] = config.api_token
    if cookies:
        arguments["cookies"] = cookies
    if kubernetes is not None:
        return PoolsKubeClient(config.api_timeout_s, client=kubernetes, **arguments)
    if config.kubernetes_context:
        arguments["kube_context"] = config.kubernetes_context
    elif config.kubeflow_hostname:
        arguments["host"] = config.kubeflow_hostname
    return PoolsClient(config.api_timeout_s, **arguments)


def limit_time(api_client: Any, timeout_s: float) -> None:
    """Give every request of a kfp-server-api client this limit, seconds, where it has none.

    Its urllib3 would also repeat each request three times; ``tried_again`` repeats what may be.
    """
    rest = api_client.rest_client
    rest.pool_manager.connection_pool_kw["retries"] = False
    request = type(rest).request

    def limited(*arguments: Any, _request_timeout: Any = None, **named: Any) -> Any:
        limit = _request_timeout or (timeout_s, timeout_s)  # it ignores a number that is no int
        return request(rest, *arguments, _request_timeout=limit, **named)

    rest.request = limited
