"""The torch runtime of the upscaler: one tile through one stage."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from numpy.typing import NDArray

from tudsr.model.adapters import load_adapter
from tudsr.model.base import Base, load_base, load_base_folder
from tudsr.model.codec import KlCodec
from tudsr.model.out_of_memory import as_memory_error
from tudsr.model.unet_windows import UNetWindows
from tudsr.profile import BaseSettings, RuntimeSettings, UpscaleSettings
from tudsr.train.device import autocast, pick_device

# Up to this many UNet parameters each stage gets a copy with its adapter merged, which runs faster;
# above, one UNet is kept and its adapters are switched.
_MERGE_BELOW = 100_000_000
# Of a GPU's free memory; the UNet's features and the allocator's gaps need the rest.
_GPU_SHARE = 0.6


class TorchRuntime:
    """Restores tiles with the base and the two adapters.

    Attributes:
        size_multiple: sides of a tile must be multiples of this many pixels.
        side_by_side: 1: a tile has all of the device.
        seed: each tile's latent is drawn from the codec's distribution with it, as in training;
            None takes the mode. A codec without a distribution draws nothing.

    Args:
        base: the frozen part.
        adapters: files by stage.
        settings: device, precision, how adapters are applied.
        seed: see above.
        memory_bytes: what an autoencoder may hold on a CPU, see `KlCodec`; on a GPU that is most of
            what is free there.
        upscale: what the UNet sees of a tile; None: all of it.
    """

    side_by_side = 1

    def __init__(
        self,
        base: Base,
        adapters: dict[int, Path],
        settings: RuntimeSettings,
        seed: int | None = None,
        memory_bytes: int | None = None,
        upscale: UpscaleSettings | None = None,
    ) -> None:
        self.settings, self.seed = settings, seed
        self.windows = None if upscale is None else UNetWindows.of(upscale, base.codec.factor)
        self.device = pick_device(settings)
        self.size_multiple = base.size_multiple
        self.base = base.eval().requires_grad_(False)
        self.timesteps: dict[int, int] = {}
        self.unets: dict[int, UNet2DConditionModel] = {}
        merge = _merges(base.unet, settings)
        for stage, path in adapters.items():
            unet = copy.deepcopy(base.unet) if merge else base.unet
            self.timesteps[stage] = load_adapter(path, unet, f"stage{stage}", base.files_hash)
            self.unets[stage] = _merged(unet) if merge else unet
        self.merged = merge
        for unet in self.unets.values():
            cast("Any", unet.requires_grad_(False)).to(self.device)
        self.base.to(self.device)
        if isinstance(self.base.codec, KlCodec):
            self.base.codec.memory_bytes = _codec_bytes(self.device, memory_bytes)

    @property
    def beside(self) -> TorchRuntime:
        """Itself."""
        return self

    def restore(
        self, image: NDArray[np.float32], stage: int, full_precision: bool = False
    ) -> NDArray[np.float32]:
        """(H, W, 3) in [0, 1] through stage 1 or 2, to the same shape and range.

        ``full_precision`` leaves autocast out.
        """
        return self.restore_batch([image], stage, full_precision)[0]

    @torch.inference_mode()
    def restore_batch(
        self, images: Sequence[NDArray[np.float32]], stage: int, full_precision: bool = False
    ) -> list[NDArray[np.float32]]:
        """Several (H, W, 3) of one shape at once; each comes out as by itself, to rounding.

        What overflowed is NaN.

        Raises:
            MemoryError: the device has no room for them.
        """
        with as_memory_error():
            return self._restored(images, stage, full_precision)

    def _restored(
        self, images: Sequence[NDArray[np.float32]], stage: int, full_precision: bool
    ) -> list[NDArray[np.float32]]:
        self.base.unet = self.unets[stage]
        if not self.merged:
            self.base.unet.set_adapter(f"stage{stage}")
        pixels = np.stack([image.transpose(2, 0, 1) for image in images])
        tensor = torch.from_numpy(pixels).to(self.device)
        tensor = tensor.contiguous(memory_format=torch.channels_last)
        with nullcontext() if full_precision else autocast(self.device, self.settings):
            t = self.timesteps[stage]
            restored = self.base.restore(tensor, t, self._draws(), self.windows)
        restored = restored.float()
        # Clamped, infinity would pass for white.
        restored = torch.where(restored.isfinite(), restored.clamp(0, 1), torch.nan)
        restored = restored.permute(0, 2, 3, 1).contiguous()
        return list(cast("NDArray[np.float32]", restored.cpu().numpy()))

    def _draws(self) -> torch.Generator | None:
        return None if self.seed is None else torch.Generator().manual_seed(self.seed)


def load_runtime(
    bundle: Path,
    device: str = "auto",
    precision: str = "auto",
    seed: int | None = None,
    memory_bytes: int | None = None,
) -> TorchRuntime:
    """The runtime of a released bundle (see ``tudsr.release.bundle``); hashes are checked."""
    from tudsr.release.bundle import base_folder, load_bundle

    manifest = load_bundle(bundle)
    folder = base_folder(bundle, manifest)
    settings = RuntimeSettings.model_validate({"device": device, "precision": precision})
    adapters = {stage: bundle / f"adapter{stage}.safetensors" for stage in (1, 2)}
    base = load_base_folder(folder)
    return TorchRuntime(base, adapters, settings, seed, memory_bytes, manifest.upscale)


def training_runtime(
    base: BaseSettings,
    adapters: dict[int, Path],
    settings: RuntimeSettings,
    upscale: UpscaleSettings | None = None,
) -> TorchRuntime:
    """The runtime of adapters that are not released yet, on the base of a profile."""
    return TorchRuntime(load_base(base), adapters, settings, upscale=upscale)


def _codec_bytes(device: torch.device, memory_bytes: int | None) -> int | None:
    if device.type != "cuda":
        return memory_bytes
    free, _ = torch.cuda.mem_get_info(device)
    return int(_GPU_SHARE * free)


def _merges(unet: UNet2DConditionModel, settings: RuntimeSettings) -> bool:
    if settings.adapters != "auto":
        return settings.adapters == "merged"
    return sum(p.numel() for p in unet.parameters()) < _MERGE_BELOW


def _merged(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    unet.fuse_lora()
    unet.unload_lora()
    return unet.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
