"""Settings of what a trained model meets: enlarging, the gate, the registry, the machine."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tudsr.profile.section import Section


class InterpolationSettings(Section):
    """How a picture is brought to a stage's size: one choice for training and enlarging."""

    before_stage1: Literal["bicubic", "bilinear"] = Field(
        default="bicubic", description="xM, Keys' kernel (paper: not named)"
    )
    before_stage2: Literal["bicubic", "bilinear"] = Field(
        default="bilinear", description="xN (paper: bilinear)"
    )


class UpscaleSettings(Section):
    """How a picture is enlarged."""

    tile_px: int = Field(default=512, ge=32, description="side of a tile, pixels")
    overlap_px: int = Field(default=64, ge=0, description="overlap of neighbouring tiles, pixels")
    even_tiles: bool = Field(
        default=False,
        description="tiles as small as the number of them that tile_px needs; for a base that does "
        "not mind sides other than those it was trained on",
    )
    window_px: int = Field(
        default=0,
        ge=0,
        description="side of what the UNet sees at once of a larger tile, pixels: windows whose "
        "epsilons are averaged, while the codec sees the whole tile; 0: the whole tile",
    )
    window_overlap_px: int = Field(
        default=0, ge=0, description="overlap of neighbouring windows, pixels"
    )
    interpolation: InterpolationSettings = InterpolationSettings()
    one_pass_to: float = Field(
        default=2.0,
        ge=2,
        le=8,
        description="largest ratio that stage 1 reaches alone, with four fifths of the work; the "
        "paper's is 2",
    )
    small_steps_if_damaged: bool = Field(
        default=False,
        description="an input that looks soft or grainy is enlarged by the paper's two stages "
        "where `one_pass_to` says one; for a model that takes more damage away so",
    )
    floor_px: int = Field(
        default=0,
        ge=0,
        description="a picture with a side below this is reflected up to it before a stage and cut "
        "after it",
    )
    colour: Literal["wavelet", "adain", "none"] = Field(
        default="wavelet", description="correction of the result's colours against the input"
    )


class GateSettings(Section):
    """Floors a model must reach against bicubic before it is packaged."""

    min_perceptual_gain: float = Field(
        default=0.20,
        description="least relative drop of the perceptual distance below bicubic's, per scale",
    )
    max_psnr_loss_db: float = Field(
        default=1.0, description="largest mean PSNR-Y loss to bicubic, dB"
    )
    max_seam_ratio: float = Field(default=1.05, gt=0, description="largest mean seam ratio")
    max_mesh: float = Field(
        default=0.1,
        ge=0,
        description="largest mean of the spectrum's peaks on the codec's lattice that the original "
        "does not have; beyond it a mesh is plain to see",
    )
    metric_trunk: Literal["hed_vgg16", "vgg16", "random"] = Field(
        default="hed_vgg16", description="trunk of the perceptual distances that are judged by"
    )
    metric_trunk_path: str | None = Field(default=None, description="weights file for trunk vgg16")
    dists: bool = Field(default=True, description="measure DISTS too; doubles the scoring time")
    bootstrap: int = Field(default=2000, ge=100, description="resamples behind each interval")
    versus_shipped: bool = Field(
        default=True,
        description="while nothing is champion, compare with the model that comes with the project",
    )


class RegistrySettings(Section):
    """Where a passed model is registered."""

    model_name: str = Field(default="tudsr", min_length=1, description="name in MLflow's registry")
    experiment: str = Field(
        default="tudsr", min_length=1, description="name of MLflow's experiment"
    )


class RuntimeSettings(Section):
    """The machine's side of a run."""

    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        default="auto", description="where it trains and scores; auto: a GPU if there is one"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto",
        description="auto: bf16 on CUDA and on CPUs that have it (AMX, AVX-512 BF16), else fp32",
    )
    adapters: Literal["auto", "merged", "switched"] = Field(
        default="auto",
        description="enlarging with a UNet a stage, its adapter merged (faster), or with one UNet "
        "whose adapters are switched; auto merges below 100 M parameters",
    )
    devices: int = Field(
        default=1,
        ge=1,
        description="processes that share a stage's training on this machine, a GPU each; what "
        "torchrun or a cluster has started counts instead",
    )
    data_workers: int | None = Field(
        default=None,
        ge=0,
        le=256,
        description="processes that make training samples (0: the training's own); none: 1 on a "
        "CPU, else one less than this process's cores, up to 8. Results do not depend on it",
    )
    ranks_timeout_s: float = Field(
        default=600,
        gt=0,
        description="longest wait for the other processes of a training, seconds",
    )
