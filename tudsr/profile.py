"""A profile: every setting of a run in one frozen, validated object.

``load_profile("tiny")`` reads ``configs/profiles/tiny.yaml``. A profile may name another one it
``extends``; what it does not set keeps the default given here, which is the paper's value or the
recommended choice where the paper is silent (docs/training.md says which is which).
This module is light to import: it needs pydantic and yaml only.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tudsr.errors import SettingsError

PROJECT_ROOT = Path(__file__).resolve().parents[1]
PROFILE_DIR = PROJECT_ROOT / "configs" / "profiles"

Range = Annotated[tuple[float, float], Field(description="inclusive lower and upper bound")]
Unit = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """Base of all settings: frozen, complete, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DataSettings(Section):
    """Which photographs there are and what makes one usable."""

    root: str = Field(
        default="data", description="folder with train/, val/, test/ and manifest.csv"
    )
    min_side_px: int = Field(
        default=512, ge=1, description="shortest side a photograph may have, pixels"
    )
    max_side_px: int = Field(
        default=16384, ge=1, description="longest side a photograph may have, pixels"
    )
    min_sharpness: float = Field(
        default=2.0,
        ge=0,
        description="least variance of the Laplacian of luma, grey levels squared",
    )
    max_noise: float = Field(
        default=15.0, ge=0, description="largest estimated noise, standard deviation in grey levels"
    )
    max_blockiness: float = Field(
        default=3.0,
        ge=0,
        description="largest ratio of luma steps on the 8-pixel JPEG grid to elsewhere",
    )
    duplicate_bits: int = Field(
        default=6,
        ge=0,
        le=64,
        description="photographs whose 64-bit perceptual hashes differ by at most "
        "this many bits are near-duplicates",
    )
    min_train: int = Field(default=8, ge=1, description="fewest usable training photographs")
    min_val: int = Field(default=1, ge=1, description="fewest usable validation photographs")
    min_test: int = Field(default=2, ge=1, description="fewest usable test photographs")


class PairSettings(Section):
    """The fixed pairs of low- and high-resolution crops for validation and test."""

    hr_crop_px: int = Field(
        default=512, ge=16, description="side of a high-resolution crop, pixels"
    )
    crops_per_photo: int = Field(default=2, ge=1, description="crops taken from each photograph")
    scales: tuple[int, ...] = Field(
        default=(4, 8), description="total ratios that pairs are made for"
    )
    val_preset: Literal["clean", "mild", "standard"] = Field(default="mild")
    test_preset: Literal["clean", "mild", "standard"] = Field(default="clean")


class DegradationSettings(Section):
    """The second-order degradation chain that makes training inputs."""

    preset: Literal["clean", "mild", "standard"] = Field(
        default="mild", description="ranges of the chain; `mild` is SeeSR's and OMGSR's"
    )
    clean_prob: Unit = Field(
        default=0.0,
        description="share of training samples that get a clean bicubic reduction instead",
    )


class BaseSettings(Section):
    """The frozen part: codec, UNet, schedule and prompt embedding."""

    source: str = Field(default="models/base", description="folder in diffusers' layout")
    random_seed: int | None = Field(
        default=None,
        description="build a random base of `arch` with this seed instead of loading one",
    )
    arch: Literal["smoke", "small"] = Field(
        default="small", description="architecture of a base of ours"
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
    warm_start: bool = Field(
        default=False, description="stage 2 only: start from stage 1's adapter instead of from zero"
    )


class CriticSettings(Section):
    """The discriminator: a frozen feature trunk and trained heads on three of its levels."""

    trunk: Literal["hed_vgg16", "vgg16", "random"] = Field(default="hed_vgg16")
    trunk_path: str | None = Field(default=None, description="weights file for trunk vgg16")
    levels: tuple[int, int, int] = Field(default=(2, 3, 4), description="trunk stages, 1-based")
    blocks: int = Field(
        default=2, ge=1, le=4, description="n, blur-conv-LeakyReLU blocks in a head"
    )
    width: int = Field(default=128, ge=8, description="channels of a head's first block")
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
        description="weight of the penalty on a grid of the codec's period (ours)",
    )
    real_target: Unit = Field(
        default=0.8, description="soft label of real images, also the generator's"
    )
    trunk: Literal["hed_vgg16", "vgg16", "random"] = Field(
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
    weight_decay: float = Field(default=1e-4, ge=0)
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
    lora: LoraSettings = LoraSettings()
    critic: CriticSettings = CriticSettings()
    loss: LossSettings = LossSettings()


class FinishSettings(Section):
    """The last part of a base's pre-training: both stages' inputs, perceptual losses, no critic."""

    images: int = Field(default=0, ge=0, description="crops seen; 0 leaves this part out")
    batch: int = Field(default=8, ge=1)
    lr: float = Field(default=3e-4, gt=0)
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
        default=1.0, ge=0, description="weight of the penalty on a grid of the codec's period"
    )
    checkpoint_every: int = Field(default=2000, ge=1)


class PretrainSettings(Section):
    """Pre-training of a base of ours on epsilon."""

    images: int = Field(default=28000, ge=1, description="crops seen")
    batch: int = Field(default=16, ge=1)
    lr: float = Field(default=5e-4, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    clip_norm: float = Field(default=1.0, gt=0)
    ema: float = Field(default=0.999, ge=0, lt=1)
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


class UpscaleSettings(Section):
    """How a picture is enlarged."""

    tile_px: int = Field(default=512, ge=32, description="side of a tile, pixels")
    overlap_px: int = Field(default=64, ge=0, description="overlap of neighbouring tiles, pixels")
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
    metric_trunk: Literal["hed_vgg16", "vgg16", "random"] = Field(default="hed_vgg16")
    metric_trunk_path: str | None = Field(default=None, description="weights file for trunk vgg16")
    dists: bool = Field(default=True, description="measure DISTS too; doubles the scoring time")
    bootstrap: int = Field(default=2000, ge=100, description="resamples behind each interval")


class RegistrySettings(Section):
    """Where a passed model is registered."""

    model_name: str = Field(default="tudsr", min_length=1)
    experiment: str = Field(default="tudsr", min_length=1)


class RuntimeSettings(Section):
    """The machine's side of a run."""

    device: Literal["auto", "cpu", "cuda", "mps"] = Field(default="auto")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto", description="auto: bf16 on CUDA and on CPUs with AMX, else fp32"
    )
    devices: int = Field(
        default=1,
        ge=1,
        description="processes that share a stage's training on this machine, a GPU each; what "
        "torchrun or a cluster has started counts instead",
    )
    ranks_timeout_s: float = Field(
        default=600,
        gt=0,
        description="longest wait for the other processes of a training, seconds",
    )


class Profile(Section):
    """One run's settings, whole."""

    name: str = Field(description="the profile's file name without its suffix")
    seed: int = Field(
        default=0, ge=0, description="the run's seed; every random draw derives from it"
    )
    runtime: RuntimeSettings = RuntimeSettings()
    data: DataSettings = DataSettings()
    pairs: PairSettings = PairSettings()
    degradation: DegradationSettings = DegradationSettings()
    base: BaseSettings = BaseSettings()
    pretrain: PretrainSettings = PretrainSettings()
    stage1: StageSettings = StageSettings(timestep=200, images=81600)
    stage2: StageSettings = StageSettings(timestep=50, images=14000, n=2, scales=(4, 8))
    upscale: UpscaleSettings = UpscaleSettings()
    gate: GateSettings = GateSettings()
    registry: RegistrySettings = RegistrySettings()

    def only(self, *sections: str) -> Profile:
        """A copy with all but these sections (and the seed) at their defaults.

        A step that is given this has a cache key of just the settings it uses.
        """
        kept = {name: getattr(self, name) for name in sections}
        return Profile(name="", seed=self.seed, **kept)


def load_profile(name: str | Path) -> Profile:
    """Read a profile by name (``tiny``) or by path (``my.yaml``).

    Raises:
        SettingsError: no such profile, not YAML, or a setting that is unknown or out of bounds.
    """
    path = _find(name)
    try:
        return Profile.model_validate(_merged(path, seen=()))
    except ValidationError as error:
        raise SettingsError(f"{path}: " + "; ".join(_explain(e) for e in error.errors())) from None


def dump_profile(profile: Profile) -> str:
    """The profile with every setting written out, as YAML."""
    return yaml.safe_dump(profile.model_dump(mode="json"), sort_keys=False)


def profile_names() -> list[str]:
    """Names of the profiles that come with the project."""
    return sorted(p.stem for p in PROFILE_DIR.glob("*.yaml"))


def _find(name: str | Path) -> Path:
    text = str(name)
    path = Path(text) if text.endswith((".yaml", ".yml")) else PROFILE_DIR / f"{text}.yaml"
    if not path.is_file():
        near = difflib.get_close_matches(text, profile_names(), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise SettingsError(
            f"no profile {text!r}{hint} Give one of {', '.join(profile_names())}, or a .yaml file"
        )
    return path


def _merged(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path in seen:
        raise SettingsError(f"{path}: profiles extend each other in a circle")
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise SettingsError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(raw, dict):
        raise SettingsError(
            f"{path}: a profile is a mapping of settings, not a {type(raw).__name__}"
        )
    parent = raw.pop("extends", None)
    base = _merged(_find(parent), (*seen, path)) if parent else {}
    return _overlay(base, {"name": path.stem, **raw})


def _overlay(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    out = dict(base)
    for key, value in top.items():
        nested = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = _overlay(out[key], value) if nested else value
    return out


def _explain(error: Any) -> str:
    """One sentence for one pydantic error; an unknown key names its nearest valid neighbour."""
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] != "extra_forbidden":
        return f"{where}: {error['msg']} (got {error['input']!r})"
    valid = _keys_at(error["loc"][:-1])
    near = difflib.get_close_matches(str(error["loc"][-1]), valid, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(valid)}"
    return f"unknown setting {where!r}; {hint}"


def _keys_at(loc: tuple[Any, ...]) -> list[str]:
    model: Any = Profile
    for part in loc:
        model = model.model_fields[part].annotation
    return list(model.model_fields)
