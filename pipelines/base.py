"""``tudsr_base``: pre-trains the small base that ``tudsr_full`` works on."""

from __future__ import annotations

from zenml import pipeline

from pipelines.placement import outside, placed
from pipelines.screen import tidy
from steps.pretrain_base import pretrain_base
from steps.validate_data import validate_data
from tudsr.profile import load_profile

tidy()


@pipeline(name="tudsr_base", enable_cache=True)
def tudsr_base(profile: str = "small") -> None:
    """Validate the photographs and train a base of the profile's architecture on them.

    The result is an artifact and ``outputs/train/base``; to ship it, copy it to ``models/base``
    and run ``dvc add models/base && dvc push``.
    """
    settings = load_profile(profile)
    there, at = outside(settings, gate=False), placed(settings)
    validation, _, _ = at(validate_data)(settings.data, there.data)
    stages = ("degradation", "stage1", "stage2", "upscale.interpolation")  # whose inputs it learns
    parts = settings.only("runtime", "data", "base", "pretrain", "registry", *stages)
    at(pretrain_base)(parts, validation, there.data, there.base, there.trunks["pretrain"])
