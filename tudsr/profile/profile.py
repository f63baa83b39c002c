"""All sections together: one run's settings."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, model_validator

from tudsr.profile.cluster import ClusterSettings
from tudsr.profile.data import DataSettings, DegradationSettings, PairSettings
from tudsr.profile.release import GateSettings, RegistrySettings, RuntimeSettings, UpscaleSettings
from tudsr.profile.section import Section
from tudsr.profile.training import BaseSettings, PretrainSettings, StageSettings


class Profile(Section):
    """One run's settings, whole."""

    name: str = Field(description="the profile's file name without its suffix")
    seed: int = Field(
        default=0, ge=0, description="the run's seed; every random draw derives from it"
    )
    runtime: RuntimeSettings = RuntimeSettings()
    data: DataSettings = DataSettings()
    pairs: PairSettings = PairSettings()
    degradation: DegradationSettings = DegradationSettings()
    base: BaseSettings = BaseSettings()
    pretrain: PretrainSettings = PretrainSettings()
    stage1: StageSettings = StageSettings(timestep=200, images=81600)
    stage2: StageSettings = StageSettings(timestep=50, images=14000, n=2, scales=(4, 8))
    upscale: UpscaleSettings = UpscaleSettings()
    gate: GateSettings = GateSettings()
    registry: RegistrySettings = RegistrySettings()
    cluster: ClusterSettings = ClusterSettings()

    @model_validator(mode="after")
    def _stage_1_stays_at_r(self) -> Self:
        if self.stage1.n != 1:
            raise ValueError(
                f"stage1.n is {self.stage1.n}, but stage 1 trains at R itself: leave it at 1, and "
                "set stage2.n"
            )
        return self

    @property
    def judged_by_the_loss(self) -> bool:
        """Whether the gate's distance has its features from the trunk of a stage's loss."""
        return self.gate.metric_trunk in (self.stage1.loss.trunk, self.stage2.loss.trunk)

    def only(self, *sections: str) -> Profile:
        """A copy with all but these sections (and the seed) at their defaults.

        A step that is given this has a cache key of just the settings it uses. A name such as
        ``upscale.interpolation`` keeps that part of its section alone.
        """
        kept: dict[str, Any] = {}
        for name in sections:
            section, _, part = name.partition(".")
            whole = getattr(self, section)
            kept[section] = type(whole)(**{part: getattr(whole, part)}) if part else whole
        return Profile(name="", seed=self.seed, **kept)
