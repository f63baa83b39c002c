"""The node pools of ``k8s/pools.yaml``, and whether what a step asks for exists there."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tudsr.errors import SettingsError
from tudsr.profile import PROJECT_ROOT

POOLS_FILE = PROJECT_ROOT / "k8s" / "pools.yaml"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Toleration(_Strict):
    """A taint that pods of this pool put up with, as in Kubernetes' PodSpec."""

    key: str = Field(min_length=1)
    operator: Literal["Exists", "Equal"] = "Equal"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: int | None = Field(default=None, ge=0)


class Pool(_Strict):
    """One kind of node.

    Attributes:
        cpus: cores that one node can give to pods.
        memory_gib: main memory that one node can give to pods, GiB.
        gpus: GPUs of one node; 0 for a pool without.
        gpu: the GPU's name, for people.
        gpu_memory_gib: memory of one GPU, GiB.
        gpu_resource: the name under which the device plugin offers them.
        node_selector: labels that the pool's nodes have.
        node_affinity: label to allowed values, for pools of several kinds of node.
        tolerations: the pool's taints.
        price_per_hour: price of one node, in the file's currency.
    """

    cpus: float = Field(gt=0)
    memory_gib: float = Field(gt=0)
    gpus: int = Field(default=0, ge=0)
    gpu: str = ""
    gpu_memory_gib: float | None = Field(default=None, gt=0)
    gpu_resource: str = "nvidia.com/gpu"
    node_selector: dict[str, str] = {}
    node_affinity: dict[str, list[str]] = {}
    tolerations: list[Toleration] = []
    price_per_hour: float = Field(ge=0)

    @model_validator(mode="after")
    def _reachable(self) -> Pool:
        """A pool that nothing selects would let the pods go anywhere."""
        if not (self.node_selector or self.node_affinity):
            raise ValueError("give node_selector or node_affinity: how its nodes are labelled")
        if self.gpus and not (self.gpu and self.gpu_memory_gib):
            raise ValueError("a pool with gpus needs gpu (its name) and gpu_memory_gib")
        return self


class Pools(_Strict):
    """All pools and the currency of their prices."""

    currency: str = "USD"
    pools: dict[str, Pool] = Field(min_length=1)

    def find(self, name: str, step: str) -> Pool:
        """The pool of this name.

        Raises:
            SettingsError: there is none; the message names those there are.
        """
        if name in self.pools:
            return self.pools[name]
        near = difflib.get_close_matches(name, self.pools, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise SettingsError(
            f"{step} asks for pool {name!r}, which is not in k8s/pools.yaml; {hint}There are "
            f"{', '.join(sorted(self.pools))}. Set cluster.{step}.pool to one of these, or add it"
        )


def load_pools(path: Path = POOLS_FILE) -> Pools:
    """Read and check the file of pools.

    Raises:
        SettingsError: no such file, not YAML, or a field that is unknown or out of bounds.
    """
    try:
        return Pools.model_validate(yaml.safe_load(Path(path).read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise SettingsError(
            f"no pools at {path}: put the cluster's node pools there (docs/kubeflow.md), or name "
            "their file with --pools"
        ) from None
    except yaml.YAMLError as error:
        raise SettingsError(f"{path} is not valid YAML: {error}") from None
    except ValidationError as error:
        told = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise SettingsError(f"{path}: {'; '.join(told)}") from None
