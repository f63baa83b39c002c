"""What decides a stage's training: other inputs are another training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tudsr.model.base_files import base_hash, base_info
from tudsr.model.version import weights_at
from tudsr.profile import BaseSettings, Profile, StageSettings
from tudsr.train.checkpoint import CADENCE, Inputs, training_inputs
from tudsr.train.device import running_on


def stage_inputs(
    profile: Profile, stage: str, photos: Sequence[Path], extra: Sequence[Path]
) -> Inputs:
    """Settings and files of ``stage1`` or ``stage2``, and what it runs on.

    Args:
        profile: the settings.
        stage: the name of its section.
        photos: the training photographs.
        extra: other files that it starts from, such as adapter 1.
    """
    decisive = profile.model_dump(
        include={
            stage: set(StageSettings.model_fields) - CADENCE,
            "data": {"crops"},
            "degradation": True,
            "upscale": {"interpolation"},
            "base": True,
            "seed": True,
            # How many processes share the work and how long they wait changes no result.
            "runtime": {"device", "precision"},
        }
    )
    settings: StageSettings = getattr(profile, stage)
    trunks = weights_at(settings.loss.trunk_path, settings.critic.trunk_path)
    files = [*photos, *extra, *trunks]
    return training_inputs(decisive, files, running_on(profile.runtime), _base(profile.base))


def _base(settings: BaseSettings) -> dict[str, str]:
    """A base's hash; importing it once more changes base.json, and no training."""
    if settings.random_seed is not None:
        return {}
    folder = Path(settings.source)
    return {"base": base_hash(base_info(folder), folder) or ""}
