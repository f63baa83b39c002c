"""Steps on a cluster: what the profile's section ``cluster`` says becomes ZenML's own settings.

Elsewhere steps are left as they are: a laptop has no pools, and ZenML's own retries would start a
training anew that Ctrl-C has just stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from zenml.client import Client
from zenml.config.base_settings import BaseSettings
from zenml.config.resource_settings import ResourceSettings
from zenml.config.retry_config import StepRetryConfig
from zenml.enums import StackComponentType
from zenml.steps import BaseStep

from tudsr.data.sets import set_version
from tudsr.errors import SettingsError
from tudsr.model.version import base_version, start_version, trunks_version
from tudsr.profile import Profile, StepPlace
from tudsr.release.locate import rival
from tudsr.release.summary import RunSummary, write_summary

FLAVOR = "tudsr_kubeflow"
_drawn: ContextVar[bool] = ContextVar("drawn", default=False)


@dataclass(frozen=True)
class Outside:
    """Versions of what lies outside ZenML's sight.

    Attributes:
        data: the photographs'.
        base: the base's; for pre-training that of the one it starts from, else empty.
        trunks: those of the trunks with weights here, by the section whose networks they are.
        against: the gate's opponent.
    """

    data: str
    base: str
    trunks: Mapping[str, str]
    against: str | None


@contextmanager
def drawing() -> Generator[None]:
    """While a pipeline is drawn (compiled, planned): as on a cluster, and nothing is looked up."""
    token = _drawn.set(True)
    try:
        yield
    finally:
        _drawn.reset(token)


def begun(profile: str) -> None:
    """Note that a run with this profile begins; what the one before came to is told no longer."""
    if not _drawn.get():
        write_summary(RunSummary(run=profile))


def outside(profile: Profile, gate: bool = True) -> Outside:
    """Look up the versions; a drawn pipeline has none.

    Raises:
        DataError: no photographs here.
        ModelError: no base here.
    """
    if _drawn.get():
        return Outside("drawn", "drawn", dict.fromkeys(_trunk_paths(profile), "drawn"), None)
    settings = profile.registry
    against = rival(settings.model_name, profile.gate.versus_shipped) if gate else None
    base = base_version(profile.base) if gate else start_version(profile)
    trunks = {name: trunks_version(*paths) for name, paths in _trunk_paths(profile).items()}
    return Outside(set_version(profile.data), base, trunks, against)


def _trunk_paths(profile: Profile) -> dict[str, tuple[str | None, ...]]:
    one, two = profile.stage1, profile.stage2
    return {
        "pretrain": (one.loss.trunk_path,),
        "stage1": (one.loss.trunk_path, one.critic.trunk_path),
        "stage2": (two.loss.trunk_path, two.critic.trunk_path),
        "gate": (profile.gate.metric_trunk_path,),
    }


def placed(profile: Profile) -> Callable[[BaseStep], BaseStep]:
    """``at = placed(profile); at(step)(...)``: the step at its place, if this is a cluster.

    Raises:
        SettingsError: a training asks for several GPUs that it would not use.
    """
    if not (_drawn.get() or _active_flavor() == FLAVOR):
        return lambda step: step
    for stage in ("train_stage1", "train_stage2"):
        gpus, devices = getattr(profile.cluster, stage).gpus, profile.runtime.devices
        if max(gpus, 1) != devices:
            raise SettingsError(
                f"cluster.{stage}.gpus is {gpus} and runtime.devices is {devices}: training takes "
                "as many processes as runtime.devices says, a GPU each; set both to the same"
            )
    return lambda step: _at(step, getattr(profile.cluster, step.name))


def _at(step: BaseStep, place: StepPlace) -> BaseStep:
    return step.with_options(
        settings={
            "resources": ResourceSettings(
                cpu_count=place.cpus,
                gpu_count=place.gpus,
                memory=f"{round(place.memory_gib * 1024)}MiB",
            ),
            # The flavor's own class would import Kubeflow on every laptop.
            f"orchestrator.{FLAVOR}": BaseSettings.model_validate(
                {
                    "pool": place.pool,
                    "shm_gib": place.shm_gib,
                    "timeout_s": round(place.timeout_h * 3600),
                }
            ),
        },
        retry=StepRetryConfig(max_retries=place.retries),
    )


def _active_flavor() -> str:
    components = Client().active_stack_model.components
    return components[StackComponentType.ORCHESTRATOR][0].flavor_name
