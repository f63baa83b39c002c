"""Kueue's queues and flavors, the fields that we use; written from v1beta2 of Kueue 0.19."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from deploy.schemas.strict import Meta, Name, Selector, Strict, Toleration

_API = "kueue.x-k8s.io/v1beta2"
Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?([numkMGTPE]|[KMGTPE]i)?$")]
Preempt = Literal["Never", "LowerPriority", "LowerOrNewerEqualPriority", "Any"]


class _Taint(Strict):
    key: str
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]


class _FlavorSpec(Strict):
    node_labels: dict[str, str] = Field(default={}, max_length=8)
    node_taints: list[_Taint] = Field(default=[], max_length=8)
    tolerations: list[Toleration] = Field(default=[], max_length=8)
    topology_name: Name | None = None


class ResourceFlavor(Strict):
    """A kind of node."""

    api_version: Literal["kueue.x-k8s.io/v1beta2"]
    kind: Literal["ResourceFlavor"]
    metadata: Meta
    spec: _FlavorSpec


class _Quota(Strict):
    name: str
    nominal_quota: Quantity
    borrowing_limit: Quantity | None = None
    lending_limit: Quantity | None = None


class _FlavorQuotas(Strict):
    name: Name
    resources: list[_Quota] = Field(min_length=1, max_length=64)


class _Group(Strict):
    covered_resources: list[str] = Field(min_length=1, max_length=64)
    flavors: list[_FlavorQuotas] = Field(min_length=1, max_length=64)


class _Preemption(Strict):
    reclaim_within_cohort: Literal["Never", "LowerPriority", "Any"] = "Never"
    within_cluster_queue: Preempt = "Never"


class _ClusterQueueSpec(Strict):
    resource_groups: list[_Group] = Field(default=[], max_length=16)
    cohort_name: Name | None = None
    queueing_strategy: Literal["StrictFIFO", "BestEffortFIFO"] = "BestEffortFIFO"
    namespace_selector: Selector | None = None
    preemption: _Preemption | None = None
    stop_policy: Literal["None", "Hold", "HoldAndDrain"] = "None"

    @model_validator(mode="after")
    def _borrows_from_somebody(self) -> _ClusterQueueSpec:
        quotas = [q for g in self.resource_groups for f in g.flavors for q in f.resources]
        if self.cohort_name is None and any(q.borrowing_limit for q in quotas):
            raise ValueError("borrowingLimit needs a cohortName")
        return self


class ClusterQueue(Strict):
    """Quotas."""

    api_version: Literal["kueue.x-k8s.io/v1beta2"]
    kind: Literal["ClusterQueue"]
    metadata: Meta
    spec: _ClusterQueueSpec


class _LocalQueueSpec(Strict):
    cluster_queue: Name
    stop_policy: Literal["None", "Hold", "HoldAndDrain"] = "None"


class LocalQueue(Strict):
    """A namespace's way to a ClusterQueue."""

    api_version: Literal["kueue.x-k8s.io/v1beta2"]
    kind: Literal["LocalQueue"]
    metadata: Meta
    spec: _LocalQueueSpec


KINDS: dict[tuple[str, str], type[Strict]] = {
    (_API, "ResourceFlavor"): ResourceFlavor,
    (_API, "ClusterQueue"): ClusterQueue,
    (_API, "LocalQueue"): LocalQueue,
}
