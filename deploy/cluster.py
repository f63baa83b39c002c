"""The cluster's API: read, apply server-side, and every refusal as a sentence with its remedy."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy.manifests import Manifest, label
from deploy.ownership import FIELD_MANAGER
from tudsr.errors import TudsrError


class ClusterError(TudsrError):
    """A cluster that cannot be reached, or that refuses."""


class UnreachableError(ClusterError):
    """No answer, or that the API is failing just now: it may be better in a while."""


class ConflictError(ClusterError):
    """Fields that somebody else manages with other values."""


class Cluster:
    """One cluster, through a kubeconfig.

    Args:
        kubeconfig: its file; None takes KUBECONFIG or ``~/.kube/config``.
        context: which of its clusters; None takes the current one.
        request_timeout_s: how long one request may take.

    Raises:
        ClusterError: no kubeconfig, or a cluster that does not answer.
    """

    def __init__(
        self,
        kubeconfig: Path | None = None,
        context: str | None = None,
        request_timeout_s: float = 20,
    ) -> None:
        from kubernetes import config
        from kubernetes.dynamic import DynamicClient

        try:
            client = config.new_client_from_config(str(kubeconfig) if kubeconfig else None, context)
        except config.ConfigException as error:
            raise ClusterError(
                f"no cluster to talk to: {error}. Name a kubeconfig with --kubeconfig or KUBECONFIG"
            ) from None
        self.host: str = client.configuration.host
        client.rest_client = _rest_client(client.configuration, request_timeout_s)
        with self._explained("the API"), tempfile.TemporaryDirectory() as folder:
            # Its cache is keyed by host alone and would outlive an installation of CRDs.
            self.client = DynamicClient(client, str(Path(folder) / "discovery.json"))

    def knows(self, manifest: Manifest) -> bool:
        """Whether the API has this kind."""
        from kubernetes.dynamic.exceptions import ResourceNotFoundError

        try:
            self._resource(manifest["apiVersion"], manifest["kind"])
        except ResourceNotFoundError:
            return False
        return True

    def get(
        self, api_version: str, kind: str, name: str, namespace: str | None = None
    ) -> Manifest | None:
        """An object, or None where there is none.

        Raises:
            ClusterError: the API cannot be reached or refuses.
        """
        from kubernetes.dynamic.exceptions import NotFoundError

        with self._explained(f"{kind}/{name}"):
            try:
                found = self._resource(api_version, kind).get(name=name, namespace=namespace)
            except NotFoundError:
                return None
        return found.to_dict()

    def live(self, manifest: Manifest) -> Manifest | None:
        """The object in the cluster that a manifest speaks of, or None."""
        meta = manifest["metadata"]
        return self.get(
            manifest["apiVersion"], manifest["kind"], meta["name"], meta.get("namespace")
        )

    def listed(
        self, api_version: str, kind: str, namespace: str, labels: dict[str, str]
    ) -> list[Manifest]:
        """The objects of a kind with these labels."""
        selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
        with self._explained(kind):
            resource = self._resource(api_version, kind)
            return resource.get(namespace=namespace, label_selector=selector).to_dict()["items"]

    def apply(self, manifest: Manifest, dry_run: bool = False, force: bool = False) -> Manifest:
        """Apply server-side as field manager ``tudsr-deploy``; what results.

        Args:
            dry_run: let the server do all but keep it.
            force: take over fields that somebody else manages.

        Raises:
            ConflictError: somebody else manages a field with another value.
            ClusterError: the API cannot be reached or refuses.
        """
        resource = self._resource(manifest["apiVersion"], manifest["kind"])
        with self._explained(label(manifest)):
            done = resource.server_side_apply(
                body=manifest,
                namespace=manifest["metadata"].get("namespace"),
                field_manager=FIELD_MANAGER,
                force_conflicts="true" if force else None,
                dry_run="All" if dry_run else None,
            )
        return done.to_dict()

    def _resource(self, api_version: str, kind: str) -> Any:
        with self._explained(kind):
            return self.client.resources.get(api_version=api_version, kind=kind)

    @contextmanager
    def _explained(self, what: str) -> Generator[None]:
        """The client's exceptions as ours."""
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except ApiException as error:
            raise _sentence(error, what) from None
        except (HTTPError, OSError) as error:
            raise UnreachableError(
                f"the cluster at {self.host} does not answer ({type(error).__name__}): is it "
                "running, and is this the right context? `kubectl config get-contexts` lists them"
            ) from None


def _rest_client(configuration: Any, timeout_s: float) -> Any:
    """The client's own, with a limit on every request: discovery has none, and would hang."""
    from kubernetes.client.rest import RESTClientObject
    from urllib3 import Retry

    class Bounded(RESTClientObject):
        def request(self, *args: Any, **named: Any) -> Any:
            # A pair, to connect and to answer: a float by itself it takes for no limit at all.
            named["_request_timeout"] = named.get("_request_timeout") or (timeout_s, timeout_s)
            return super().request(*args, **named)

    configuration.retries = Retry(total=1, read=0)
    return Bounded(configuration)


def _sentence(error: Any, what: str) -> ClusterError:
    """What the API's answer means for the person who asked."""
    said = _said(error)
    message = said.get("message") or error.reason
    if error.status == 401:
        return ClusterError(
            "the cluster does not accept your credentials (401): the token has expired or is of "
            "another cluster. Sign in again as your cluster's provider says, then repeat"
        )
    if error.status == 403:
        return ClusterError(
            f"you may not do this (403): {message}. Ask for the role that allows it"
        )
    if error.status == 409:
        causes = said.get("details", {}).get("causes", [])
        return ConflictError(_conflict(what, causes) if causes else f"{what}: {message}")
    if error.status >= 500 or error.status == 429:
        return UnreachableError(
            f"{what}: the API failed ({error.status}: {message}); repeat in a while"
        )
    return ClusterError(f"{what}: the API refuses it ({error.status}): {message}")


def _said(error: Any) -> dict[str, Any]:
    try:
        found = json.loads(error.body)
    except (TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _conflict(what: str, causes: list[dict[str, str]]) -> str:
    lines = [f"  {cause.get('field', '?')}: {cause.get('message', '')}" for cause in causes]
    return (
        f"{what}: somebody else set fields that this would change:\n"
        + "\n".join(lines)
        + "\nIf theirs is right, put it into k8s/; if not, repeat with --force-conflicts, which "
        "takes the fields over"
    )
