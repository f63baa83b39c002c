"""Settings of the photographs, the pairs made of them and their degradation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tudsr.profile.section import Section, Unit


class CropSettings(Section):
    """How training crops are cut from pictures; the defaults are the first author's OMGSR's."""

    flip: bool = Field(default=True, description="mirror half of the crops, left to right")
    turn: bool = Field(
        default=False, description="turn each crop by 0, 90, 180 or 270 degrees at random"
    )
    reductions: tuple[Annotated[float, Field(ge=1)], ...] = Field(
        default=(1.0,),
        min_length=1,
        description="ratios, one drawn a crop, by which a picture is reduced (bicubic) before the "
        "crop is cut, at most to the crop's size; what stands here twice comes twice as often",
    )
    recolour: Unit = Field(
        default=0.0,
        description="share of crops whose colour channels are permuted and whose tone curve is "
        "bent, by a gamma of 0.75 to 1.33",
    )
    resize_sources: tuple[str, ...] = Field(
        default=("*ffhq*",),
        description="patterns of those train_sources whose pictures are reduced (Lanczos) to the "
        "crop's side: aligned faces, FFHQ to 512 in stage 1, in stage 2 as they are",
    )


class DataSettings(Section):
    """Which photographs there are and what makes one usable."""

    root: str = Field(
        default="data", description="folder with train/, val/, test/ and manifest.csv"
    )
    train_sources: tuple[str, ...] = Field(
        default=(),
        description="big sets to train on in place of root's train/: folders, .tar shards or "
        "patterns of them, local or s3://bucket/prefix (docs/big-data.md)",
    )
    sample: int = Field(
        default=256,
        ge=1,
        description="pictures of train_sources that validation measures, evenly spaced",
    )
    max_bad_share: Unit = Field(
        default=0.01,
        description="largest share of the pictures of train_sources that training may skip as "
        "unreadable or smaller than half a crop",
    )
    crops: CropSettings = CropSettings()
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
    val_preset: Literal["clean", "mild", "standard"] = Field(
        default="mild", description="damage of the validation pairs"
    )
    test_preset: Literal["clean", "mild", "standard"] = Field(
        default="clean", description="damage of the test pairs, which the gate judges by"
    )


class DegradationSettings(Section):
    """The second-order degradation chain that makes training inputs."""

    preset: Literal["clean", "mild", "standard"] = Field(
        default="mild", description="ranges of the chain; `mild` is SeeSR's and OMGSR's"
    )
    clean_prob: Unit = Field(
        default=0.0,
        description="share of training samples that get a clean bicubic reduction instead",
    )
