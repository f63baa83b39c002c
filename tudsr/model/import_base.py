"""Taking over Stable Diffusion 2.1-base: check it, copy it, compute the prompt's embedding once.

What is written needs neither the source nor a text encoder any more, and records where it came from
and the SHA-256 of every file.
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tudsr.errors import ModelError
from tudsr.images.atomic import write_json, writing_dir
from tudsr.model.base_files import check_prediction, file_hashes, read_config, save_prompt
from tudsr.model.base_source import find_configs, find_weights
from tudsr.model.stable_diffusion import recognise

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from torch import Tensor
    from transformers import CLIPTextModel

_WEIGHTS = "diffusion_pytorch_model.safetensors"
_TEXT_WEIGHTS = "model.safetensors"
_CONFIGS = (
    "scheduler/scheduler_config.json",
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
)
_TOKENIZER = ("tokenizer/vocab.json", "tokenizer/merges.txt")
_COPIED = (*_CONFIGS[:3], f"unet/{_WEIGHTS}", f"vae/{_WEIGHTS}")
# Names that the autoencoder's attention had in files older than diffusers 0.17.
_OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def import_base(
    source: str, out: Path, revision: str | None = None, prompt: str = ""
) -> dict[str, Any]:
    """Write a base of Stable Diffusion's classes to ``out``; returns what ``base.json`` records.

    Args:
        source: a local folder in diffusers' layout, or a model's id on the Hugging Face hub.
        out: the base's folder; what is no base there is never replaced.
        revision: branch, tag or commit of the hub.
        prompt: the text whose embedding conditions every step; the text encoder is the source's.

    Raises:
        ModelError: a source that cannot be had, lacks a file, is no base of these classes, predicts
            anything but epsilon, or has weights that do not fit its configuration.
    """
    check_target(out, source)
    found = find_configs(source, revision)
    configs = _checked_configs(found.folder, source)
    found = find_weights(found)
    _require(found.folder, source, (f"text_encoder/{_TEXT_WEIGHTS}", *_COPIED))
    _check_all_weights(found.folder)
    embedding = embed_prompt(found.folder, prompt)
    info: dict[str, Any] = {
        "name": source.rstrip("/").rsplit("/", 1)[-1],
        "arch": recognise(configs["unet"], configs["vae"]),
        "source": source if found.commit else Path(source).name,
        "revision": found.commit,
        "requested_revision": revision,
        "imported": datetime.now(UTC).isoformat(timespec="seconds"),
        "prompt": prompt,
        "preconditioned": False,
    }
    with writing_dir(out) as temporary:
        for name in _COPIED:
            (temporary / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(found.folder / name, temporary / name)
        save_prompt(embedding, temporary)
        info["files"] = file_hashes(temporary)
        write_json(temporary / "base.json", info)
    return info


def check_target(out: Path, source: str | None = None) -> None:
    """Refuse to replace a folder that is no base, or the source itself.

    Raises:
        ModelError: with the remedy.
    """
    if source is not None and Path(source).is_dir() and Path(source).resolve() == out.resolve():
        raise ModelError(f"{out} is the source itself: give another folder for the base")
    if not out.exists() or (out / "base.json").is_file():
        return
    if not out.is_dir() or any(out.iterdir()):
        raise ModelError(f"{out} is there and is no base: give a new folder, or remove it first")


def embed_prompt(folder: Path, prompt: str) -> Tensor:
    """The (1, 77, D) embedding of a text by the source's own tokenizer and text encoder.

    As Stable Diffusion conditions on it: padded to the encoder's length, the last hidden state
    after the final norm, float32.

    Raises:
        ModelError: a tokenizer or text encoder that cannot be read.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import CLIPTokenizer

    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        encoder = _text_encoder(folder / "text_encoder")
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"the tokenizer or text encoder of {folder} cannot be read: {error}"
        ) from None
    if len(tokenizer) != encoder.config.vocab_size:
        raise ModelError(
            f"{folder}: the tokenizer knows {len(tokenizer)} words, the text encoder "
            f"{encoder.config.vocab_size}: they are not of one model, or a file is damaged"
        )
    tokens = tokenizer(
        prompt,
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    )
    with torch.inference_mode():
        return encoder(tokens.input_ids).last_hidden_state.clone()


def _text_encoder(folder: Path) -> CLIPTextModel:
    """In float32. What a file lacks, transformers would draw at random with a warning alone."""
    import torch
    from transformers import CLIPTextModel

    loaded = CLIPTextModel.from_pretrained(
        folder,
        local_files_only=True,
        use_safetensors=True,
        dtype=torch.float32,
        output_loading_info=True,
    )
    encoder, told = cast("tuple[CLIPTextModel, dict[str, Any]]", loaded)
    # Positions are numbers in order: files of older versions hold them, newer ones do not.
    missing = sorted(key for key in told["missing_keys"] if "position_ids" not in key)
    if missing:
        raise ValueError(
            f"{folder / _TEXT_WEIGHTS} lacks {len(missing)} weights, such as {missing[0]!r}: "
            "fetch it again"
        )
    return encoder.eval()


def _checked_configs(folder: Path, source: str) -> dict[str, dict[str, Any]]:
    """The UNet's and the autoencoder's configs, after all that can be told without weights."""
    if (folder / "base.json").is_file() and not (folder / "text_encoder").is_dir():
        raise ModelError(f"{source} is a base already: set base.source to it")
    _require(folder, source, _CONFIGS)
    if not (folder / "tokenizer" / "tokenizer.json").is_file():
        _require(folder, source, _TOKENIZER)
    check_prediction(read_config(folder / _CONFIGS[0]), source)
    unet, vae, text = (read_config(folder / name) for name in _CONFIGS[1:])
    _check_class(unet, "UNet2DConditionModel", f"{source}: unet")
    _check_class(vae, "AutoencoderKL", f"{source}: vae")
    channels, width = unet.get("in_channels"), unet.get("cross_attention_dim")
    if channels != vae.get("latent_channels"):
        raise ModelError(
            f"{source}: the UNet takes {channels} channels, the autoencoder's latents have "
            f"{vae.get('latent_channels')}: inpainting and depth models cannot be a base"
        )
    if width != text.get("hidden_size") or unet.get("addition_embed_type"):
        raise ModelError(
            f"{source}: the UNet is conditioned on more than one text encoder of width "
            f"{text.get('hidden_size')} (it takes {width}), such as SDXL's: use SD2.1-base"
        )
    return {"unet": unet, "vae": vae}


def _require(folder: Path, source: str, names: tuple[str, ...]) -> None:
    missing = [name for name in names if not (folder / name).is_file()]
    if not missing:
        return
    kind = ""
    if (folder / "model_index.json").is_file():
        kind = f" ({read_config(folder / 'model_index.json').get('_class_name')})"
    pickled = [n for n in missing if (folder / n).with_suffix(".bin").is_file()]
    remedy = "give a folder of SD2.1-base in diffusers' layout, complete"
    if pickled:
        remedy = "its weights are pickles, which are never read: take a copy with .safetensors"
    raise ModelError(f"{source}{kind} lacks {', '.join(missing)}: {remedy}")


def _check_class(config: dict[str, Any], wanted: str, where: str) -> None:
    if config.get("_class_name") != wanted:
        raise ModelError(
            f"{where} is {config.get('_class_name')!r}, needed is {wanted!r}: use SD2.1-base"
        )


def _check_all_weights(folder: Path) -> None:
    from diffusers import AutoencoderKL, UNet2DConditionModel

    check_weights(folder / "unet", UNet2DConditionModel)
    check_weights(folder / "vae", AutoencoderKL)


def check_weights(folder: Path, kind: type[UNet2DConditionModel] | type[AutoencoderKL]) -> None:
    """Hold the names and shapes in a weights file against its config, without reading the weights.

    Raises:
        ModelError: a file that is no safetensors or is cut off, or weights that do not fit.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    config = read_config(folder / "config.json")
    with torch.device("meta"):
        model: Any = kind.from_config(config)
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    try:
        with safe_open(folder / _WEIGHTS, "pt") as file:
            names = list(file.keys())
            stored = {_todays_name(n): tuple(file.get_slice(n).get_shape()) for n in names}
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{folder / _WEIGHTS} cannot be read: {error}. Fetch it again") from None
    wrong = sorted(n for n in wanted.keys() | stored.keys() if wanted.get(n) != stored.get(n))
    if wrong:
        raise ModelError(
            f"{folder / _WEIGHTS} does not fit its config.json: {len(wrong)} weights differ, such "
            f"as {wrong[0]!r} ({stored.get(wrong[0])}, needed {wanted.get(wrong[0])})"
        )


def _todays_name(name: str) -> str:
    parts = name.split(".")
    if "attentions" in parts and len(parts) > 1 and parts[-2] in _OLD_NAMES:
        parts[-2] = _OLD_NAMES[parts[-2]]
    return ".".join(parts)
