"""Settings of a run on a cluster: which node pool each step asks for, by name and in numbers.

The pools themselves stand in ``k8s/pools.yaml``; on a laptop nothing reads this section.
"""

from __future__ import annotations

from pydantic import Field

from tudsr.profile.section import Section


class StepPlace(Section):
    """What one step asks of the cluster, and what it is assumed to need there."""

    pool: str = Field(default="cpu", min_length=1, description="node pool of k8s/pools.yaml")
    gpus: int = Field(default=0, ge=0, le=64, description="GPUs of one node")
    cpus: float = Field(default=2, gt=0, description="processor cores")
    memory_gib: float = Field(default=8, gt=0, description="main memory, GiB")
    shm_gib: float = Field(
        default=0,
        ge=0,
        description="shared memory for data workers, GiB; counts as main memory. 0: what the "
        "container runtime gives, 64 MiB as a rule",
    )
    retries: int = Field(
        default=2, ge=0, le=20, description="further attempts after an interruption or a lost node"
    )
    timeout_h: float = Field(
        default=1, gt=0, le=720, description="longest time one attempt may take, hours"
    )
    images_per_s: float | None = Field(
        default=None,
        gt=0,
        description="assumed training throughput of one GPU, or of the step's cores without one, "
        "images a second; for `tudsr kubeflow plan` alone",
    )
    overhead_min: float = Field(
        default=5,
        ge=0,
        description="assumed time that does not grow with the images, minutes; for `tudsr kubeflow "
        "plan` alone",
    )


class ClusterSettings(Section):
    """One place a step, named as the steps are."""

    validate_data: StepPlace = StepPlace()
    synthesize_degradations: StepPlace = StepPlace()
    pretrain_base: StepPlace = StepPlace()
    train_stage1: StepPlace = StepPlace()
    train_stage2: StepPlace = StepPlace()
    gate_metrics: StepPlace = StepPlace()
    package_bento: StepPlace = StepPlace()
    register_model: StepPlace = StepPlace()
