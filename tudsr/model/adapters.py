"""Adapters: one LoRA on the frozen UNet per stage, through peft."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from tudsr.errors import ModelError
from tudsr.images.atomic import writing
from tudsr.profile import LoraSettings

_CONVOLUTIONS = ["conv1", "conv2", "conv_in", "conv_shortcut", "conv", "conv_out"]
_ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
_FEED_FORWARD = ["proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"]

# The paper gives the rank alone. `default` is OMGSR's set, `full` is HYPIR's.
TARGETS: dict[str, list[str]] = {
    "attention": _ATTENTION,
    "default": _CONVOLUTIONS + _ATTENTION,
    "full": _CONVOLUTIONS + _ATTENTION + _FEED_FORWARD,
}


def add_adapter(unet: UNet2DConditionModel, name: str, settings: LoraSettings, seed: int) -> None:
    """Put a fresh adapter into ``unet``: Gaussian A, zero B, so it starts as the identity."""
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha or settings.rank,
        target_modules=TARGETS[settings.targets],
        init_lora_weights=True if settings.init == "kaiming" else "gaussian",
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # Two adapters on one UNet are what we want; peft warns of it.
        warnings.filterwarnings("ignore", message="Already found a `peft_config`")
        torch.manual_seed(seed)
        unet.add_adapter(config, adapter_name=name)
    for layer in unet.modules():
        if isinstance(layer, LoraLayer):
            # Under autocast, peft's cast to the adapter's float32 would be undone at once.
            layer.cast_input_dtype_enabled = False


def activate(unet: UNet2DConditionModel, name: str) -> None:
    """Use this adapter alone, and train it alone."""
    unet.set_adapter(name)


def adapter_parameters(unet: UNet2DConditionModel, name: str) -> list[nn.Parameter]:
    """The adapter's trainable tensors, in a fixed order."""
    return [p for n, p in unet.named_parameters() if f".{name}." in n and "lora_" in n]


def adapter_state(unet: UNet2DConditionModel, name: str) -> dict[str, Tensor]:
    """The adapter's weights by module name."""
    state = get_peft_model_state_dict(unet, adapter_name=name)
    return {k: v.detach().float().cpu().contiguous() for k, v in state.items()}


def load_adapter_state(unet: UNet2DConditionModel, name: str, state: Mapping[str, Tensor]) -> None:
    """Overwrite an adapter's weights.

    Raises:
        ModelError: weights of another architecture, rank or target set.
    """
    own = adapter_state(unet, name)
    wrong = [k for k in own.keys() | state.keys() if _shape(own, k) != _shape(state, k)]
    if wrong:
        raise ModelError(
            f"the adapter does not fit this base: {len(wrong)} weights differ, such as "
            f"{wrong[0]!r} ({_shape(state, wrong[0])}, needed {_shape(own, wrong[0])}). Take the "
            "base, lora.rank and lora.targets that it was trained with, or train it anew"
        )
    set_peft_model_state_dict(unet, dict(state), adapter_name=name)


def save_adapter(
    path: Path,
    unet: UNet2DConditionModel,
    name: str,
    settings: LoraSettings,
    timestep: int,
    base_hash: str | None = None,
) -> None:
    """Write an adapter as safetensors, with what is needed to use it in the header.

    ``base_hash`` says which base it belongs to; None (a base of no files) leaves that open.
    """
    described: dict[str, Any] = {"lora": settings.model_dump(), "timestep": timestep}
    if base_hash is not None:
        described["base"] = base_hash
    with writing(path) as temporary:
        save_file(adapter_state(unet, name), temporary, {"tudsr": json.dumps(described)})


def load_adapter(
    path: Path, unet: UNet2DConditionModel, name: str, base_hash: str | None = None
) -> int:
    """Add the adapter stored at ``path`` and return the timestep it was trained at.

    Raises:
        ModelError: no adapter, one that does not fit, or one that records another base than
            ``base_hash``. Older ones record none, and pass.
    """
    try:
        with safe_open(path, "pt") as file:
            described = json.loads(cast(dict[str, Any], file.metadata())["tudsr"])
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, TypeError, KeyError) as error:
        raise ModelError(f"{path} is not an adapter of this project: {error}") from None
    trained_on = described.get("base", base_hash)
    if base_hash is not None and trained_on != base_hash:
        raise ModelError(
            f"{path} was trained on another base (its files' hash is {trained_on[:12]}…, this "
            f"one's {base_hash[:12]}…): set base.source to that one, or train the adapter anew"
        )
    add_adapter(unet, name, LoraSettings(**described["lora"]), seed=0)
    load_adapter_state(unet, name, state)
    return int(described["timestep"])


def _shape(state: Mapping[str, Tensor], key: str) -> tuple[int, ...] | None:
    return tuple(state[key].shape) if key in state else None
