"""DINO's vision transformers as the critic's eyes: DINOv3-ViT-B/16 (paper), DINOv2-ViT-B/14.

Only the blocks up to the deepest level asked for are kept. DINOv3's weights are gated and under
their own licence; DINOv2's are Apache-2.0. Both are needed for training alone.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tudsr.errors import ModelError
from tudsr.model.precision import freeze_in_half
from tudsr.model.trunks import normalise

PUBLISHED = {
    "dinov3": "facebook/dinov3-vitb16-pretrain-lvd1689m",
    "dinov2": "facebook/dinov2-base",
}
_KINDS = {"dinov3": ("dinov3_vit",), "dinov2": ("dinov2", "dinov2_with_registers")}
# A head's blur reflects two pixels at a border, which takes a map of three.
_LEAST_MAP = 3


class DinoTrunk(nn.Module):
    """Feature maps after some of a vision transformer's blocks.

    Args:
        vit: transformers' Dinov2Model, Dinov2WithRegistersModel or DINOv3ViTModel.
        levels: the blocks, 1-based and rising.
        final_norm: whether the model's last norm is applied to each level's tokens.
        patch_fit: ``resize`` or ``crop``; see ``fit_to_patches``.

    Attributes:
        levels: the blocks, 1-based.
        widths: channels of each level.
    """

    def __init__(
        self, vit: Any, levels: tuple[int, ...], final_norm: bool = True, patch_fit: str = "resize"
    ) -> None:
        super().__init__()
        blocks = _blocks(vit)
        if not 1 <= min(levels) <= max(levels) <= len(blocks):
            raise ModelError(f"levels {levels}: this trunk has blocks 1 to {len(blocks)}")
        del blocks[max(levels) :]
        self.vit = vit
        self.levels, self.patch_fit = levels, patch_fit
        self.widths = (int(vit.config.hidden_size),) * len(levels)
        self.patch_px = int(vit.config.patch_size)
        # CLS and register tokens stand before the patches.
        self.prefix = 1 + int(getattr(vit.config, "num_register_tokens", 0) or 0)
        norm = vit.layernorm if hasattr(vit, "layernorm") else vit.norm
        self.norm = norm if final_norm else nn.Identity()

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) in [0, 1] to a (B, D, h, w) map a level, one place a patch."""
        pixels = fit_to_patches(normalise(images), self.patch_px, self.patch_fit)
        height, width = (side // self.patch_px for side in pixels.shape[2:])
        if min(height, width) < _LEAST_MAP:
            raise ModelError(
                f"the critic's trunk sees {width} x {height} patches of {self.patch_px} pixels: "
                f"its heads need at least {_LEAST_MAP} a side; raise base.r_px or take a VGG trunk"
            )
        states = self.vit(pixel_values=pixels, output_hidden_states=True).hidden_states
        maps: list[Tensor] = []
        for level in self.levels:
            tokens = self.norm(states[level])[:, self.prefix :]
            maps.append(tokens.transpose(1, 2).unflatten(2, (height, width)))
        return maps

    def checkpoint_gradients(self) -> None:
        """Backward passes keep the blocks' inputs alone and compute the rest anew, for good."""
        blocks = _blocks(self.vit)
        for i, block in enumerate(blocks):
            if not isinstance(block, _Recomputed):
                blocks[i] = _Recomputed(block)


class _Recomputed(nn.Module):
    """A block whose inside a graph does not keep."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return checkpoint(self.block, *args, use_reentrant=False, **kwargs)


@contextmanager
def positions_anew() -> Generator[None]:
    """Without the positions that transformers keeps of each size: a fake pass would leave fakes."""
    from transformers.models.dinov3_vit import modeling_dinov3_vit

    theirs: Any = modeling_dinov3_vit
    keeping = theirs.get_patches_center_coordinates
    theirs.get_patches_center_coordinates = keeping.__wrapped__
    try:
        yield
    finally:
        theirs.get_patches_center_coordinates = keeping


def _blocks(vit: Any) -> nn.ModuleList:
    return vit.encoder.layer if hasattr(vit, "encoder") else vit.model.layer


def fit_to_patches(images: Tensor, patch_px: int, how: str) -> Tensor:
    """Make both sides of (B, 3, H, W) multiples of a patch.

    ``resize`` goes to the nearest multiple (512 to 518 for patches of 14, DINOv2's own size),
    ``crop`` cuts the middle out at the next lower one (504). Nothing happens to a side that fits.
    """
    height, width = images.shape[2:]
    if height % patch_px == 0 and width % patch_px == 0:
        return images
    if how == "crop":
        size = [side // patch_px * patch_px for side in (height, width)]
        top, left = (height - size[0]) // 2, (width - size[1]) // 2
        return images[:, :, top : top + size[0], left : left + size[1]]
    size = [max(1, round(side / patch_px)) * patch_px for side in (height, width)]
    return F.interpolate(images, size=size, mode="bicubic", align_corners=False, antialias=True)


@lru_cache(maxsize=2)
def load_dino(
    name: str,
    path: str | None,
    revision: str | None,
    levels: tuple[int, ...],
    final_norm: bool,
    patch_fit: str,
    device: str = "cpu",
    half: bool = False,
) -> DinoTrunk:
    """The frozen trunk ``dinov3`` or ``dinov2`` from a folder or the hub, float32 unless ``half``.

    ``path`` None means the publisher's ViT-B on the hub. It belongs to everyone on ``device``:
    never move it.

    Raises:
        ModelError: weights that cannot be had, or are another model's; a revision of a folder.
    """
    source = path or PUBLISHED[name]
    if revision is not None and Path(source).is_dir():
        raise ModelError(
            f"critic.trunk_path {source} is a folder and has no revisions: leave out "
            f"critic.trunk_revision {revision}, or give the id of a model on the hub"
        )
    try:
        vit = _from_pretrained(source, revision)
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(_unavailable(name, source, error)) from None
    kind = vit.config.model_type
    if kind not in _KINDS[name]:
        raise ModelError(
            f"{source} is a {kind!r}, but the trunk {name!r} needs {' or '.join(_KINDS[name])}: "
            "change critic.trunk or critic.trunk_path"
        )
    trunk = DinoTrunk(vit, levels, final_norm, patch_fit)
    trunk = trunk.to(device).eval().requires_grad_(False)
    if half:
        freeze_in_half(trunk)
    return trunk


def hub_commit(name: str, path: str | None, revision: str | None) -> str | None:
    """Which commit of the hub the trunk that was loaded last is; None for a folder.

    The hub's own cache says so: a branch such as main is a moving name.
    """
    from huggingface_hub import try_to_load_from_cache

    source = path or PUBLISHED[name]
    if Path(source).is_dir():
        return None
    config = try_to_load_from_cache(source, "config.json", revision=revision)
    return Path(config).parent.name if isinstance(config, str) else None


def _from_pretrained(source: str, revision: str | None) -> Any:
    import torch
    from transformers import AutoModel

    loaded = AutoModel.from_pretrained(
        source,
        revision=revision or "main",
        use_safetensors=True,
        dtype=torch.float32,
        output_loading_info=True,
    )
    vit, told = cast("tuple[Any, dict[str, Any]]", loaded)
    # The mask token serves pre-training alone; not every file has it.
    missing = [key for key in told["missing_keys"] if "mask_token" not in key]
    if missing:
        raise ValueError(f"{len(missing)} weights are missing, such as {missing[0]!r}")
    return vit


def _unavailable(name: str, source: str, error: Exception) -> str:
    reason = " ".join(str(error).split())
    remedy = "set critic.trunk_path to a folder in transformers' layout"
    if name == "dinov3":
        remedy += "; DINOv3's weights are gated: ask for access on the hub, or take trunk dinov2"
    return f"the critic's trunk {source!r} cannot be read: {reason} ({remedy})"
