"""Settings of what is trained: the base, the two stages, their adapters, critics and losses."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tudsr.profile.section import Section, Unit

Decay = Annotated[float, Field(ge=0, lt=1)]


class BaseSettings(Section):
    """The frozen part: codec, UNet, schedule and prompt embedding."""

    source: str = Field(
        default="models/base",
        description="folder in diffusers' layout, as `tudsr base import` and `tudsr train base` "
        "write it",
    )
    revision: str | None = Field(
        default=None,
        description="commit of the hub that the base must have been imported from; null takes any",
    )
    prompt: str = Field(
        default="", description="the text whose embedding conditions both stages (paper: unnamed)"
    )
    random_seed: int | None = Field(
        default=None,
        description="build a random base of `arch` with this seed instead of loading one",
    )
    arch: Literal["smoke", "small", "sd21", "sd21-eighth", "any"] = Field(
        default="small",
        description="architecture; a base that records another one is refused. smoke and small are "
        "ours, sd21-eighth is SD2.1-base at an eighth of its channels, any takes what is there",
    )
    r_px: int = Field(default=512, ge=16, description="R, the native training size, pixels")


class LoraSettings(Section):
    """One stage's adapter."""

    rank: int = Field(default=32, ge=1, description="LoRA rank (paper: 32)")
    alpha: int | None = Field(
        default=None, description="LoRA alpha; None means the rank, so scale 1"
    )
    targets: Literal["default", "attention", "full"] = Field(
        default="default", description="which UNet modules get an adapter (method: the OMGSR set)"
    )
    init: Literal["gaussian", "kaiming"] = Field(
        default="gaussian", description="how A starts; B starts at zero"
    )
    warm_start: bool = Field(
        default=False, description="stage 2 only: start from stage 1's adapter instead of from zero"
    )


class CriticSettings(Section):
    """The discriminator: a frozen feature trunk and trained heads on three of its levels."""

    trunk: Literal["hed_vgg16", "vgg16", "random", "random_eighth", "dinov3", "dinov2"] = Field(
        default="hed_vgg16", description="dinov3 is the paper's ViT-B/16, dinov2 the free ViT-B/14"
    )
    trunk_path: str | None = Field(
        default=None,
        description="vgg16: safetensors file; dinov2, dinov3: folder or hub id in transformers' "
        "layout, null being the publisher's ViT-B",
    )
    trunk_revision: str | None = Field(
        default=None, description="branch, tag or commit where trunk_path is a hub id"
    )
    levels: tuple[int, int, int] | None = Field(
        default=None,
        description="VGG stages or ViT blocks, 1-based; null means 2, 3, 4 or (paper) 3, 6, 9",
    )
    final_norm: bool = Field(
        default=True, description="ViT trunks: their last norm on each level's tokens"
    )
    patch_fit: Literal["resize", "crop"] = Field(
        default="resize",
        description="ViT trunks: how a side becomes a multiple of the patch. resize goes to the "
        "nearest one (512 to 518 for patch 14), crop to the next lower (504)",
    )
    blocks: int = Field(
        default=2, ge=1, le=4, description="n, blur-conv-LeakyReLU blocks in a head"
    )
    width: int | None = Field(
        default=None,
        ge=8,
        description="channels of a head's first block, halved in each further one; null halves "
        "those of its level from the first on (a ViT-B's 768: 384, 192)",
    )
    stride: Literal[1, 2] = Field(default=1, description="of the blur before each 3x3 convolution")
    warm_start: bool = Field(
        default=False, description="stage 2 only: start from stage 1's heads instead of fresh ones"
    )
    diff_augment: bool = Field(
        default=True, description="colour, translation and cutout before the critic"
    )
    lr: float = Field(default=5e-5, gt=0, description="AdamW learning rate of the heads")


class LossSettings(Section):
    """Weights of the generator's losses (paper, Eq. 9) and how they are evaluated."""

    ea_dists: float = Field(default=5.0, ge=0, description="weight of edge-aware DISTS")
    gan: float = Field(default=0.5, ge=0, description="weight of the adversarial term")
    l1: float = Field(default=0.5, ge=0, description="weight of pixel L1")
    lattice: float = Field(
        default=0.0,
        ge=0,
        description="weight of the error that repeats with the codec's period (ours)",
    )
    mesh: float = Field(
        default=0.0,
        ge=0,
        description="weight of peaks in the spectrum at the codec's lattice that the original "
        "does not have (ours)",
    )
    real_target: Unit = Field(
        default=0.8, description="soft label of real images, also the generator's"
    )
    trunk: Literal["hed_vgg16", "vgg16", "random", "random_eighth"] = Field(
        default="hed_vgg16", description="DISTS trunk"
    )
    trunk_path: str | None = Field(default=None, description="weights file for trunk vgg16")
    alternate_edges: bool = Field(
        default=False,
        description="evaluate the plain or the edge term of EA-DISTS at random, doubled: the "
        "same expectation at half the cost",
    )
    l1_only_images: int = Field(
        default=0,
        ge=0,
        description="first images trained with L1 alone, before the other terms join",
    )


class StageSettings(Section):
    """One training stage (paper, Alg. 1 and 2)."""

    timestep: int = Field(ge=0, le=999, description="t, the fixed diffusion step")
    latent: Literal["sample", "mode"] = Field(
        default="sample",
        description="which latent of the autoencoder's distribution training uses; enlarging "
        "always uses the mode. Without effect on the lossless codec",
    )
    images: int = Field(ge=1, description="length of training: images seen (stage 2: of N² chunks)")
    batch: int = Field(default=1, ge=1, description="images per micro-batch")
    accumulate: int = Field(
        default=4, ge=1, description="micro-batches (stage 2: chunks) per update"
    )
    n: int = Field(default=1, ge=1, le=8, description="N, stage 2's upsampling ratio; 1 in stage 1")
    scales: tuple[int, ...] = Field(
        default=(4,), description="degradation ratios drawn from, per sample"
    )
    lr: float = Field(default=5e-5, gt=0, description="AdamW learning rate of the adapter")
    weight_decay: float = Field(default=1e-4, ge=0, description="AdamW's")
    betas: tuple[Decay, Decay] = Field(
        default=(0.9, 0.999), description="decays of AdamW's two moments, adapter's and heads'"
    )
    clip_norm: float = Field(default=1.0, gt=0, description="largest gradient norm")
    ema: float = Field(
        default=0.999, ge=0, lt=1, description="decay of the averaged adapter; 0 turns off"
    )
    warmup: int = Field(
        default=0, ge=0, description="images over which the rate rises (paper: none)"
    )
    cooldown: Unit = Field(
        default=0.0, description="last share of training with a linearly falling rate"
    )
    checkpoint_every: int = Field(default=500, ge=1, description="images between checkpoints")
    log_every: int = Field(default=50, ge=1, description="images between rows of figures")
    sample_every: int = Field(default=500, ge=1, description="images between sample pictures")
    gradient_checkpointing: bool = Field(
        default=False,
        description="keep the inputs of the UNet's and decoder's blocks alone and "
        "compute what is within anew: less memory, about a third more time",
    )
    whole_image_losses: bool = Field(
        default=False,
        description="stage 2 only: losses on the whole N·R picture, across chunk borders, with "
        "exact gradients; each chunk is made twice (ours)",
    )
    lora: LoraSettings = LoraSettings()
    critic: CriticSettings = CriticSettings()
    loss: LossSettings = LossSettings()

    @model_validator(mode="after")
    def _equal_updates(self) -> Self:
        chunks = self.n**2
        if self.accumulate % chunks and chunks % self.accumulate:
            parts = [str(k) for k in range(1, chunks) if chunks % k == 0]
            raise ValueError(
                f"accumulate {self.accumulate} neither divides the {chunks} chunks of a picture (n "
                f"{self.n}) nor is a multiple of them, so updates would not weigh the same: set it "
                f"to {', '.join(parts)} or a multiple of {chunks}"
            )
        return self

    @model_validator(mode="after")
    def _whole_pictures_and_halves(self) -> Self:
        if self.whole_image_losses and self.accumulate % self.n**2:
            raise ValueError(
                f"whole_image_losses takes whole pictures, and accumulate {self.accumulate} is no "
                f"multiple of their {self.n**2} chunks (n {self.n}): set accumulate to {self.n**2}"
            )
        return self


class FinishSettings(Section):
    """The last part of a base's pre-training: both stages' inputs, perceptual losses, no critic."""

    images: int = Field(default=0, ge=0, description="crops seen; 0 leaves this part out")
    batch: int = Field(default=8, ge=1, description="crops an update")
    lr: float = Field(default=3e-4, gt=0, description="AdamW learning rate")
    warmup: int = Field(default=1600, ge=0, description="crops over which the rate rises")
    cooldown: Unit = Field(
        default=0.6, description="last share of training with a linearly falling rate"
    )
    stage2_share: Unit = Field(
        default=0.5, description="share of updates on stage 2's kind of inputs, at its t"
    )
    l1: float = Field(default=10.0, ge=0, description="weight of pixel L1")
    features: float = Field(
        default=3.0, ge=0, description="weight of the distance of unit features (as in LPIPS)"
    )
    dists: float = Field(default=3.0, ge=0, description="weight of DISTS")
    lattice: float = Field(
        default=30.0, ge=0, description="weight of the error that repeats with the codec's period"
    )
    mesh: float = Field(
        default=0.0,
        ge=0,
        description="weight of peaks in the spectrum at the codec's lattice that the original "
        "does not have (ours)",
    )
    window_px: int | None = Field(
        default=None,
        ge=32,
        description="side of the random window on which features and DISTS are taken; null takes "
        "the whole crop. The trunk is most of the work",
    )
    checkpoint_every: int = Field(default=2000, ge=1, description="crops between checkpoints")


class PretrainSettings(Section):
    """Pre-training of a base of ours."""

    start: str | None = Field(
        default=None,
        description="folder of a base whose weights the first part goes on from; null starts anew",
    )
    images: int = Field(default=28000, ge=1, description="crops seen")
    decoder_images: int = Field(
        default=0,
        ge=0,
        description="so many of them first train the codec's learned decoder alone, the UNet left "
        "out, which is faster",
    )
    batch: int = Field(default=16, ge=1, description="crops an update")
    lr: float = Field(default=5e-4, gt=0, description="AdamW learning rate")
    weight_decay: float = Field(default=1e-2, ge=0, description="AdamW's, in the last part too")
    clip_norm: float = Field(default=1.0, gt=0, description="largest gradient norm")
    ema: float = Field(
        default=0.999,
        ge=0,
        lt=1,
        description="decay of the weights' moving average, which is what is kept",
    )
    cooldown: Unit = Field(
        default=0.3, description="last share of training with a linearly falling rate"
    )
    low_t_share: Unit = Field(
        default=0.5,
        description="share of the denoising samples with t drawn below 400, where the stages work",
    )
    restore_share: Unit = Field(
        default=0.8,
        description="share of updates that restore stage 1's kind of inputs in one step, at t from "
        "25 to 200; the others denoise",
    )
    warmup: int = Field(default=1000, ge=0, description="crops over which the rate rises")
    checkpoint_every: int = Field(default=4000, ge=1, description="crops between checkpoints")
    log_every: int = Field(default=100, ge=1, description="crops between rows of figures")
    finish: FinishSettings = FinishSettings()
