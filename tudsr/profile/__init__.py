"""A profile: every setting of a run in one frozen, validated object.

``load_profile("tiny")`` reads ``configs/profiles/tiny.yaml``. A profile may name another one it
``extends``; what it does not set keeps the default given here, which is the paper's value or the
recommended choice where the paper is silent (docs/training.md says which is which).
This package is light to import: it needs pydantic and yaml only.
"""

from __future__ import annotations

from tudsr.profile.cluster import ClusterSettings, StepPlace
from tudsr.profile.data import CropSettings, DataSettings, DegradationSettings, PairSettings
from tudsr.profile.loading import (
    PROFILE_DIR,
    PROJECT_ROOT,
    dump_profile,
    load_profile,
    profile_names,
)
from tudsr.profile.profile import Profile
from tudsr.profile.release import (
    GateSettings,
    InterpolationSettings,
    RegistrySettings,
    RuntimeSettings,
    UpscaleSettings,
)
from tudsr.profile.section import Section
from tudsr.profile.training import (
    BaseSettings,
    CriticSettings,
    FinishSettings,
    LoraSettings,
    LossSettings,
    PretrainSettings,
    StageSettings,
)

__all__ = [
    "PROFILE_DIR",
    "PROJECT_ROOT",
    "BaseSettings",
    "ClusterSettings",
    "CriticSettings",
    "CropSettings",
    "DataSettings",
    "DegradationSettings",
    "FinishSettings",
    "GateSettings",
    "InterpolationSettings",
    "LoraSettings",
    "LossSettings",
    "PairSettings",
    "PretrainSettings",
    "Profile",
    "RegistrySettings",
    "RuntimeSettings",
    "Section",
    "StageSettings",
    "StepPlace",
    "UpscaleSettings",
    "dump_profile",
    "load_profile",
    "profile_names",
]
