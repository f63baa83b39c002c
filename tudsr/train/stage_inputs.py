"""What decides a stage's training: other inputs are another training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tudsr.model.base_files import base_hash, base_info
from tudsr.model.dino import PUBLISHED, hub_commit
from tudsr.model.version import weights_at
from tudsr.profile import BaseSettings, CriticSettings, Profile, StageSettings
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
    known = _base(profile.base) | _critic(settings.critic)
    return training_inputs(decisive, files, running_on(profile.runtime), known)


def _base(settings: BaseSettings) -> dict[str, str]:
    """A base's hash; importing it once more changes base.json, and no training."""
    if settings.random_seed is not None:
        return {}
    folder = Path(settings.source)
    return {"base": base_hash(base_info(folder), folder) or ""}


def _critic(settings: CriticSettings) -> dict[str, str]:
    """The commit of a trunk from the hub, whose weights are no file here by a path of ours."""
    if settings.trunk not in PUBLISHED:
        return {}
    commit = hub_commit(settings.trunk, settings.trunk_path, settings.trunk_revision)
    return {} if commit is None else {"critic.trunk": commit}
