"""Pre-training a base of ours, on crops of photographs and their degraded selves.

A base that has only ever taken noise away knows little of blur, and minutes of adapter training do
not teach it. So some updates denoise, as diffusion does, and the others restore in one step, as the
stages will (docs/adr/0004). Where the codec has a learned decoder, it comes first and alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tudsr.errors import ModelError, SettingsError
from tudsr.model.base import TRAIN_STEPS, Base, load_base_folder, random_base
from tudsr.model.base_files import check_expected
from tudsr.model.codec import LappedCodec
from tudsr.profile import PretrainSettings, Profile
from tudsr.train.base_weights import BaseWeights
from tudsr.train.checkpoint import CADENCE, training_inputs
from tudsr.train.device import autocast, data_workers, pick_device, running_on
from tudsr.train.finish import finish_base
from tudsr.train.loop import Plan, train
from tudsr.train.pairs import TrainingPairs
from tudsr.train.ranks import join, rank
from tudsr.train.record import Recorder

_LOW_T = 400
_RESTORING_T = (25, 200)
# Brings the gradient of a mean absolute difference of pixels to that of the denoising error.
_RESTORING_WEIGHT = 10.0


def pretrain_base(
    profile: Profile,
    photos: Sequence[Path],
    out: Path,
    work: Path,
    recorders: Sequence[Recorder] = (),
) -> Path:
    """Train a base of architecture ``profile.base.arch`` and write it to ``out``.

    With ``pretrain.finish.images`` a second part follows (``tudsr/train/finish.py``). Checkpoints
    and figures go to a folder under ``work`` that the inputs name; calling again after a kill goes
    on from there. Success keeps the figures and removes the checkpoints.
    """
    if profile.pretrain.finish.images:
        first = _first_part(profile, photos, work / "first", work, recorders)
        return finish_base(profile, photos, first, out, work, recorders)
    return _first_part(profile, photos, out, work, recorders)


def _first_part(
    profile: Profile, photos: Sequence[Path], out: Path, work: Path, recorders: Sequence[Recorder]
) -> Path:
    settings = profile.pretrain
    decisive = profile.model_dump(
        include={
            "pretrain": set(PretrainSettings.model_fields) - CADENCE - {"finish"},
            "data": {"crops"},
            "degradation": True,
            "upscale": {"interpolation": {"before_stage1"}},
            "seed": True,
            "base": {"arch", "r_px"},
            "stage1": {"scales"},
        }
    )
    base = _first_base(profile)
    started = [Path(settings.start) / "base.json"] if settings.start else []
    inputs = training_inputs(decisive, [*photos, *started], running_on(profile.runtime))
    if settings.finish.images and _made_of(out) == inputs.key:
        return out
    base = base.to(pick_device(profile.runtime))
    join(profile.runtime, base.prompt.device)
    pairs = TrainingPairs(photos, profile, profile.base.r_px, profile.stage1.scales, profile.seed)
    task = DenoisingTask(base, profile)
    plan = Plan(
        name="base",
        images=settings.images,
        out=work / inputs.key[:12],
        inputs=inputs,
        warmup=settings.warmup,
        cooldown=settings.cooldown,
        checkpoint_every=settings.checkpoint_every,
        log_every=settings.log_every,
        workers=data_workers(profile.runtime, base.prompt.device),
        recorders=recorders,
    )
    figures = train(task, pairs, plan)
    done = {"key": inputs.key, "settings": settings.model_dump(), "figures": figures}
    if "pretraining" in base.info:
        done["before"] = base.info["pretraining"]
    name = f"tudsr-base-{profile.base.arch}"
    task.finish(plan, out, {"name": name, **base.info, "pretraining": done})
    return out


def _first_base(profile: Profile) -> Base:
    """The one to go on from, or a new one that leaves pictures as they are.

    Preconditioned, an output of 0 is the identity.

    Raises:
        ModelError: a start that is missing, damaged or of another architecture or prompt.
        SettingsError: a decoder to train first, where there is none.
    """
    settings = profile.pretrain
    if settings.start:
        base = load_base_folder(Path(settings.start))
        check_expected(Path(settings.start), profile.base)
    else:
        base = random_base(profile.base.arch, profile.seed)
        for parameter in base.unet.conv_out.parameters():
            nn.init.zeros_(parameter)
    learned = base.codec.learned if isinstance(base.codec, LappedCodec) else None
    if settings.decoder_images and learned is None:
        raise SettingsError(
            f"pretrain.decoder_images is {settings.decoder_images}, but the codec of "
            f"{settings.start or profile.base.arch} has no learned decoder to train: set it to 0"
        )
    if learned is not None and not settings.start:
        learned.start_from_nothing()
    return base


def _made_of(folder: Path) -> str | None:
    """Key of the inputs of the whole base in ``folder``, or None.

    A run that was killed in its second part must not train the first one anew.
    """
    try:
        info = load_base_folder(folder).info
    except (OSError, ModelError):
        return None
    return info.get("pretraining", {}).get("key")


class DenoisingTask(BaseWeights):
    """Denoising on epsilon, or restoration in one step: a coin decides for each update."""

    def __init__(self, base: Base, profile: Profile) -> None:
        settings = profile.pretrain
        super().__init__(base, settings, lr=settings.lr)
        self.profile = profile
        self.unit, self.group = 1, settings.batch

    def update(self, batch: dict[str, Tensor], images_seen: int, rate: float) -> dict[str, Tensor]:
        """One AdamW step on this rank's share of ``hr`` and ``lr``, (B, 3, R, R) in [0, 1]."""
        if images_seen < self.settings.decoder_images:
            loss = self._difference(self._decoded(batch["lr"]), batch["hr"])
            self.descend(loss, rate)
            return self.told({"loss_restore": loss})
        rng = np.random.default_rng((self.profile.seed, 1, images_seen))
        restoring = rng.random() < self.settings.restore_share
        loss = self._restoring(batch, rng) if restoring else self._denoising(batch["hr"], rng)
        self.descend(loss, rate)
        return self.told({"loss_restore" if restoring else "loss_epsilon": loss})

    def _denoising(self, hr: Tensor, rng: np.random.Generator) -> Tensor:
        """Mean squared error on epsilon; more samples at the low t where the stages work."""
        device = self.base.prompt.device
        latents = self.base.codec.encode(hr.to(device) * 2 - 1)
        if rank():  # noise of its own
            rng = np.random.default_rng((rank(), *rng.integers(2**32, size=2)))
        low = rng.random(len(hr)) < self.settings.low_t_share
        t = np.where(
            low, rng.integers(_LOW_T, size=low.size), rng.integers(TRAIN_STEPS, size=low.size)
        )
        timesteps = torch.from_numpy(t).to(device)
        noise = torch.from_numpy(rng.standard_normal(latents.shape, np.float32)).to(device)
        abar = self.base.alphas_cumprod[timesteps].float()[:, None, None, None]
        noisy = (abar.sqrt() * latents + (1 - abar).sqrt() * noise).contiguous(
            memory_format=torch.channels_last
        )
        with autocast(device, self.profile.runtime):
            predicted = self.base.predict_epsilon(noisy, timesteps)
        return F.mse_loss(predicted.float(), noise)

    def _restoring(self, batch: dict[str, Tensor], rng: np.random.Generator) -> Tensor:
        """Mean absolute difference after the stages' own step, at a t of their range."""
        device, (first, last) = self.base.prompt.device, _RESTORING_T
        with autocast(device, self.profile.runtime):
            restored = self.base.restore(batch["lr"].to(device), int(rng.integers(first, last + 1)))
        return self._difference(restored, batch["hr"])

    def _decoded(self, lr: Tensor) -> Tensor:
        """What the codec alone makes of pictures."""
        codec, device = self.base.codec, self.base.prompt.device
        with autocast(device, self.profile.runtime):
            return (codec.decode(codec.encode(lr.to(device) * 2 - 1)) + 1) / 2

    def _difference(self, restored: Tensor, hr: Tensor) -> Tensor:
        return _RESTORING_WEIGHT * F.l1_loss(restored.float(), hr.to(restored.device))
