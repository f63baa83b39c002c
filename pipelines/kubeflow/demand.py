"""What one step asks of its pool, checked against what a node of the pool has."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.kubeflow.pools import Pool
from tudsr.errors import SettingsError

_MIB_PER_GIB = 1024


@dataclass(frozen=True)
class Demand:
    """One step's place on the cluster.

    Attributes:
        gpus: GPUs of one node.
        cpus: cores.
        memory_gib: main memory, GiB, with ``shm_gib`` of it for shared memory.
        retries: further attempts after the first.
        timeout_s: longest time of one attempt, seconds.
    """

    step: str
    pool_name: str
    pool: Pool
    gpus: int
    cpus: float
    memory_gib: float
    shm_gib: float
    retries: int
    timeout_s: int

    @property
    def cpu_quantity(self) -> str:
        """Kubernetes' notation: ``2`` or ``500m``."""
        return str(int(self.cpus)) if self.cpus == int(self.cpus) else f"{round(self.cpus * 1000)}m"

    @property
    def memory_quantity(self) -> str:
        """Kubernetes' notation, ``65536Mi``."""
        return f"{round(self.memory_gib * _MIB_PER_GIB)}Mi"

    @property
    def shm_quantity(self) -> str:
        """Kubernetes' notation, ``8192Mi``."""
        return f"{round(self.shm_gib * _MIB_PER_GIB)}Mi"

    def check(self) -> None:
        """Compare with one node of the pool.

        Raises:
            SettingsError: no node could ever take it; the pod would wait for ever.
        """
        for problem in (self._gpus(), self._cpus(), self._memory(), self._shm()):
            if problem:
                raise SettingsError(f"{self.step} cannot run in pool {self.pool_name!r}: {problem}")

    def _gpus(self) -> str | None:
        have = self.pool.gpus
        if self.gpus > have:
            remedy = f"ask for at most {have}" if have else "name a pool that has GPUs"
            return f"it asks for {self.gpus} GPUs and a node has {have}; {remedy}"
        if have and not self.gpus:
            return f"it asks for no GPU on nodes that have {have}; set gpus, or name a CPU pool"
        return None

    def _cpus(self) -> str | None:
        if self.cpus <= self.pool.cpus:
            return None
        have = self.pool.cpus
        return f"it asks for {self.cpus:g} cores and a node has {have:g}; lower cpus"

    def _memory(self) -> str | None:
        if self.memory_gib <= self.pool.memory_gib:
            return None
        have = self.pool.memory_gib
        return f"it asks for {self.memory_gib:g} GiB and a node has {have:g}; lower memory_gib"

    def _shm(self) -> str | None:
        if self.shm_gib < self.memory_gib:
            return None
        return (
            f"shm_gib is {self.shm_gib:g} of {self.memory_gib:g} GiB, and shared memory counts as "
            "main memory; raise memory_gib or lower shm_gib"
        )
