"""Settings of the service: environment variables ``TUDSR_SERVE_...``, typed and bounded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from tudsr.errors import SettingsError
from tudsr.places import outputs_dir
from tudsr.upscale.memory import default_budget


class ServeSettings(BaseSettings):
    """How the service runs; the model and its device are ``TUDSR_MODEL`` and ``TUDSR_DEVICE``."""

    model_config = SettingsConfigDict(env_prefix="TUDSR_SERVE_", frozen=True, populate_by_name=True)

    model: str | None = Field(
        default=None,
        validation_alias="TUDSR_MODEL",
        description="a bundle's folder, a version or an alias; none follows the champion",
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        default="auto", validation_alias="TUDSR_DEVICE", description="where the model runs"
    )
    state: Path = Field(
        default_factory=lambda: outputs_dir() / "serve",
        description="folder of the jobs, for one service at a time",
    )
    follow_s: float = Field(
        default=5, gt=0, description="how often the champion is looked up, seconds"
    )

    max_upload_bytes: int = Field(default=64 * 2**20, ge=1024, description="largest body, bytes")
    max_input_px: int = Field(default=50_000_000, ge=64, description="largest picture, pixels")
    max_output_px: int = Field(default=8192**2, ge=64, description="largest result, pixels")
    body_timeout_s: float = Field(default=60, gt=0, description="time to send a body, seconds")

    slots: int = Field(default=4, ge=2, le=64, description="pictures worked on at a time")
    small_px: int = Field(
        default=2_000_000,
        ge=0,
        description="a picture of at most so many pixels through the model is small: one slot is "
        "kept for small ones",
    )
    active_px: int = Field(
        default=8192**2,
        ge=64,
        description="results being made at a time, pixels, small ones not counted: bounds memory "
        "(a larger one runs alone)",
    )
    memory: int | None = Field(
        default=None,
        ge=128,
        description="MiB a picture may take beside the model; tiles shrink to fit; none: half of "
        "the machine's or container's",
    )
    batch_px: int = Field(
        default=0,
        ge=0,
        description="tiles of several pictures go through the model together up to so many "
        "pixels; 0: four tiles of 512 x 512 on a GPU, one of 256 x 256 on a CPU",
    )
    queue: int = Field(default=256, ge=1, description="requests held at a time, uploads included")
    held_bytes: int = Field(
        default=2**30, ge=2**20, description="bodies held at a time, bytes, jobs' own not counted"
    )
    sending_bytes: int = Field(
        default=4 * 2**30,
        ge=2**20,
        description="results on their way to clients, bytes, jobs' own not counted; with more, new "
        "pictures get 429",
    )
    max_wait_s: float = Field(
        default=30, gt=0, description="a picture with more work than this before it gets 429"
    )
    deadline_s: float = Field(default=120, gt=0, description="a request's deadline unless it asks")
    max_deadline_s: float = Field(default=600, gt=0, description="longest deadline to ask for")
    grace_s: float = Field(
        default=25, ge=0, description="after SIGTERM, running work has so long to finish"
    )

    max_jobs: int = Field(default=100, ge=0, description="unfinished jobs at a time; 0: no jobs")
    jobs_bytes: int = Field(
        default=4 * 2**30, ge=2**20, description="all jobs' pictures and results together, bytes"
    )
    jobs_keep_s: float = Field(default=3600, gt=0, description="a finished job is kept so long")
    job_deadline_s: float = Field(default=3600, gt=0, description="longest time to work on a job")

    tokens: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(), description="bearer tokens, separated by commas; none: open to all"
    )
    tokens_file: Path | None = Field(default=None, description="a file with a token a line")
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="origins whose pages may call, separated by commas; none: off"
    )

    @property
    def memory_bytes(self) -> int:
        """What a picture may take beside the model; see `tudsr.upscale.memory`."""
        return default_budget() if self.memory is None else self.memory * 2**20

    @field_validator("max_deadline_s")
    @classmethod
    def _not_before_the_default(cls, longest: float, info: ValidationInfo) -> float:
        if longest < (default := info.data.get("deadline_s", 0)):
            raise ValueError(
                f"less than TUDSR_SERVE_DEADLINE_S, which is {default:g}: raise this one or lower "
                "that one"
            )
        return longest

    @field_validator("tokens", "cors_origins", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    def all_tokens(self) -> tuple[str, ...]:
        """The accepted bearer tokens, those of the file included.

        Raises:
            SettingsError: the file cannot be read or holds no token; the service must not be open
                by mistake.
        """
        tokens = tuple(token.get_secret_value() for token in self.tokens)
        if self.tokens_file is None:
            return tokens
        try:
            lines = self.tokens_file.read_text("utf-8").split()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"cannot read the tokens in {self.tokens_file}: {error}") from None
        if not lines:
            raise SettingsError(f"{self.tokens_file} holds no token: write one a line")
        return tokens + tuple(lines)


def load_settings() -> ServeSettings:
    """The settings of the environment.

    Raises:
        SettingsError: a value out of bounds; the message names the variable, not the value of a
            token.
    """
    try:
        return ServeSettings()
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        variable = name if name.startswith("TUDSR_") else f"TUDSR_SERVE_{name.upper()}"
        shown = "" if name == "tokens" else f" (got {first['input']!r})"
        raise SettingsError(f"{variable}: {first['msg']}{shown}") from None
