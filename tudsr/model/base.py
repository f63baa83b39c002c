"""The frozen part of TUDSR: codec, UNet, noise schedule and prompt embedding, and one step of it.

A base is a folder in diffusers' layout: ``unet/``, ``scheduler/``, ``vae/`` and, of our own,
``prompt.safetensors`` (so that no text encoder is needed) and ``base.json`` (where it came from).
SD2.1-base and the small base go through the same code; only the codec's class differs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from tudsr.errors import ModelError
from tudsr.images.atomic import write_json, writing_dir
from tudsr.model.base_files import (
    base_hash,
    base_info,
    check_expected,
    check_files,
    check_prediction,
    file_hashes,
    read_config,
    save_prompt,
)
from tudsr.model.codec import KlCodec, LappedCodec, load_codec
from tudsr.model.precision import at_least_single
from tudsr.model.stable_diffusion import SD_ARCHITECTURES, random_parts
from tudsr.model.unet_windows import UNetWindows
from tudsr.profile import BaseSettings

TRAIN_STEPS = 1000

# Down and up blocks without attention: on 32 x 32 latents it costs more than it gives
# (docs/log.md). The middle block of `smoke` has self- and cross-attention, as SD has them
# everywhere; that of `small` has none (docs/adr/0007).
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "smoke": {
        "factor": 4,
        "balance": 0.75,
        "channels": (16, 32),
        "layers": 1,
        "groups": 8,
        "learned": (8, 1),
    },
    "small": {
        "factor": 4,
        "balance": 0.75,
        "channels": (16, 32, 64),
        "layers": 1,
        "groups": 8,
        "middle": "UNetMidBlock2D",
        "learned": (48, 16),
    },
}
PROMPT_WIDTH = 32


class Base(nn.Module):
    """Codec, UNet, schedule and prompt embedding, with the paper's one-step formula.

    Attributes:
        codec: images in [-1, 1] to latents and back.
        unet: predicts epsilon; stage adapters are put into it.
        prompt: (1, L, D) embedding of the one prompt used, empty in the paper's setting.
        alphas_cumprod: (1000,) the schedule's cumulative alphas, float64.
        info: content of ``base.json``, or empty.
        preconditioned: epsilon is the UNet's output plus a fixed share of its input, with which an
            output of 0 leaves a latent as it is in one step. So are the bases of ours; SD is not.
    """

    prompt: Tensor
    alphas_cumprod: Tensor

    def __init__(
        self,
        codec: LappedCodec | KlCodec,
        unet: UNet2DConditionModel,
        scheduler: DDPMScheduler,
        prompt: Tensor,
        info: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.codec = codec
        self.unet = unet
        self.scheduler = scheduler
        self.info = info or {}
        self.preconditioned = bool(self.info.get("preconditioned"))
        self.register_buffer("prompt", prompt)
        # float64 from the betas: the closed form, not the scheduler's float32 product.
        betas = scheduler.betas.double()
        alphas_cumprod = torch.cumprod(1 - betas, 0)
        self.register_buffer("alphas_cumprod", alphas_cumprod)
        # As numbers too: asking a GPU for one would wait for all that it has been given to do.
        self._abar: list[float] = alphas_cumprod.tolist()

    @property
    def files_hash(self) -> str | None:
        """Which base this is (``base_hash``); None where ``base.json`` lists no files."""
        return base_hash(self.info)

    @property
    def size_multiple(self) -> int:
        """Sides of an image must be multiples of this many pixels."""
        halvings = len(self.unet.config["block_out_channels"]) - 1
        return self.codec.factor * 2**halvings

    def predict_epsilon(self, latents: Tensor, timesteps: Tensor | int) -> Tensor:
        """B(z, t, c) of Eq. 1: (B, C, h, w) latents to epsilon of the same shape."""
        prompt = self.prompt.to(latents.dtype).expand(latents.shape[0], -1, -1)
        t = _on(latents.device, timesteps)
        epsilon = cast(Tensor, self.unet(latents, t, prompt, return_dict=False)[0])
        if not self.preconditioned:
            return epsilon
        abar = self.alphas_cumprod[t].to(at_least_single(latents).dtype).reshape(-1, 1, 1, 1)
        return epsilon + (1 - abar.sqrt()) / (1 - abar).sqrt() * latents

    def one_step(self, z_lr: Tensor, timestep: int, windows: UNetWindows | None = None) -> Tensor:
        """z_H = (z_L - sqrt(1 - abar_t) B(z_L, t, c)) / sqrt(abar_t) (paper, Eq. 1).

        ``z_lr`` (B, C, h, w) is fed as it is: no noise is added to it. With ``windows`` the UNet
        sees a large one in parts.
        """
        abar = self._abar[timestep]
        if windows is None:
            epsilon = self.predict_epsilon(z_lr, timestep)
        else:
            epsilon = windows.average(lambda z: self.predict_epsilon(z, timestep), z_lr)
        return (z_lr - (1 - abar) ** 0.5 * epsilon) / abar**0.5

    def checkpoint_gradients(self) -> None:
        """Training keeps block inputs of UNet and decoder alone; the rest is computed anew."""
        self.unet.enable_gradient_checkpointing()
        if isinstance(self.codec, KlCodec):
            self.codec.vae.enable_gradient_checkpointing()

    def restore(
        self,
        images: Tensor,
        timestep: int,
        rng: torch.Generator | None = None,
        windows: UNetWindows | None = None,
    ) -> Tensor:
        """Encode, one step, decode: (B, 3, H, W) in [0, 1] to the same shape, not clamped.

        H and W must be multiples of ``size_multiple``. With a CPU generator ``rng`` the latent is
        drawn from the codec's distribution, else it is the mode.
        """
        z_lr = self.codec.encode(images * 2 - 1, rng)
        return (self.codec.decode(self.one_step(z_lr, timestep, windows)) + 1) / 2


def random_base(arch: str, seed: int, device: str = "cpu") -> Base:
    """A base of a known architecture with random weights, the same for the same seed and device.

    SD2.1's are drawn on ``device``: its 950 million numbers take a core a quarter of a minute.

    Raises:
        ModelError: no architecture of that name.
    """
    known = (*ARCHITECTURES, *SD_ARCHITECTURES)
    if arch not in known:
        raise ModelError(f"{arch!r} is no architecture to draw: give one of {', '.join(known)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if arch not in SD_ARCHITECTURES:
            return _frozen(_random_small(arch)).to(device)
        with torch.device(device):
            vae, unet, prompt = random_parts(arch)
        return _frozen(Base(KlCodec(vae), unet, _schedule(), prompt, {"arch": arch})).to(device)


def _random_small(arch: str) -> Base:
    plan = ARCHITECTURES[arch]
    levels = len(plan["channels"])
    unet = UNet2DConditionModel(
        sample_size=32,
        in_channels=3 * plan["factor"] ** 2,
        out_channels=3 * plan["factor"] ** 2,
        down_block_types=("DownBlock2D",) * levels,
        up_block_types=("UpBlock2D",) * levels,
        mid_block_type=plan.get("middle", "UNetMidBlock2DCrossAttn"),
        block_out_channels=plan["channels"],
        layers_per_block=plan["layers"],
        norm_num_groups=plan["groups"],
        attention_head_dim=16,
        cross_attention_dim=PROMPT_WIDTH,
    )
    codec = LappedCodec(plan["factor"], plan["balance"], plan.get("learned"))
    info = {"arch": arch, "preconditioned": True}
    return Base(codec, unet, _schedule(), torch.zeros(1, 1, PROMPT_WIDTH), info)


def load_base(settings: BaseSettings) -> Base:
    """The base a profile asks for, frozen and in evaluation mode, float32.

    Raises:
        ModelError: no such folder, a file missing or damaged, another architecture, revision or
            prompt than the profile's, or a base that does not predict epsilon (the one-step
            formula is wrong for it).
    """
    if settings.random_seed is not None:
        return random_base(settings.arch, settings.random_seed)
    folder = Path(settings.source)
    _check_is_there(folder)
    check_expected(folder, settings)
    return _frozen(load_base_folder(folder))


def load_base_folder(folder: Path) -> Base:
    """Read a base in diffusers' layout.

    Raises:
        ModelError: no such folder, a file missing or damaged, or another prediction than epsilon.
    """
    _check_is_there(folder)
    info = base_info(folder)
    check_files(folder, info.get("files", {}))
    scheduler_config = read_config(folder / "scheduler" / "scheduler_config.json")
    check_prediction(scheduler_config, str(folder))
    try:
        scheduler = DDPMScheduler.from_config(scheduler_config)
        loaded = UNet2DConditionModel.from_pretrained(
            str(folder / "unet"),
            use_safetensors=True,
            torch_dtype=torch.float32,
            output_loading_info=True,
        )
        unet, told = cast("tuple[UNet2DConditionModel, dict[str, Any]]", loaded)
        prompt = load_file(folder / "prompt.safetensors")["prompt"]
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise ModelError(f"{folder} is not a complete base in diffusers' layout: {error}") from None
    if told["missing_keys"]:
        raise ModelError(
            f"{folder / 'unet'} lacks {len(told['missing_keys'])} weights, such as "
            f"{told['missing_keys'][0]!r}: fetch or import the base again"
        )
    return Base(load_codec(folder / "vae"), unet, cast(Any, scheduler), prompt.float(), info)


def _check_is_there(folder: Path) -> None:
    if not folder.is_dir():
        raise ModelError(
            f"no base at '{folder}': run `dvc pull` to fetch the one that comes with the "
            "project, `tudsr base import` for Stable Diffusion's, `tudsr train base` to make one, "
            "or set base.source to a folder"
        )


def save_base(base: Base, folder: Path, info: dict[str, Any], dtype: torch.dtype) -> None:
    """Write a base in diffusers' layout, with SHA-256 of every file in ``base.json``."""
    models: list[nn.Module] = [base.unet, base.codec]
    with writing_dir(folder) as temporary:
        for model in models:
            _set_dtype(model, dtype)
        base.unet.register_to_config(_name_or_path="")  # no folder of this machine in the files
        base.unet.save_pretrained(temporary / "unet")
        (temporary / "vae").mkdir()
        base.codec.save(temporary / "vae")
        for model in models:
            _set_dtype(model, torch.float32)
        base.scheduler.save_pretrained(str(temporary / "scheduler"))
        save_prompt(base.prompt, temporary)
        told = {"preconditioned": base.preconditioned, **info}
        write_json(temporary / "base.json", {**told, "files": file_hashes(temporary)})


def _set_dtype(model: nn.Module, dtype: torch.dtype) -> None:
    """As ``model.to(dtype)``, which logs a warning about layers that this UNet does not have."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)


def _schedule() -> DDPMScheduler:
    """SD's schedule: scaled-linear betas from 0.00085 to 0.012 in 1000 steps, epsilon."""
    return DDPMScheduler(
        num_train_timesteps=TRAIN_STEPS,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="epsilon",
        clip_sample=False,
    )


def _on(device: torch.device, timesteps: Tensor | int) -> Tensor:
    """A number is filled in on the device: copying it there would wait for all work before it."""
    if isinstance(timesteps, int):
        return torch.full((), timesteps, device=device)
    return timesteps.to(device)


def _frozen(base: Base) -> Base:
    return base.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
