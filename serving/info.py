"""Content of ``/v1/info``: which model answers, what it takes, and the limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from serving.parameters import DEFAULT_SCALE, parameter_schemas
from serving.settings import ServeSettings
from tudsr.images.formats import readable
from tudsr.images.read import MIN_SIDE_PX
from tudsr.images.write import writable
from tudsr.upscale.cascade import MAX_SCALE, MIN_SCALE

if TYPE_CHECKING:
    from serving.engine import Model

_REF = "#/components/schemas/{model}"


class Scale(BaseModel):
    """Total ratio."""

    min: float
    max: float
    default: float


class Formats(BaseModel):
    """Names as Pillow has them, such as ``PNG``."""

    read: list[str]
    written: list[str]


class Side(BaseModel):
    """Of a picture that comes in, pixels."""

    min: int


class Deadline(BaseModel):
    """Of a request, seconds."""

    default: float
    max: float


class Limits(BaseModel):
    """What is refused beyond."""

    upload_bytes: int = Field(description="largest body")
    input_px: int = Field(description="largest picture, pixels")
    output_px: int = Field(description="largest result, pixels")
    memory_bytes: int = Field(description="a picture may take beside the model")
    side_px: Side
    deadline_s: Deadline
    wait_s: float = Field(description="a picture with more work than this before it gets 429")
    jobs: int = Field(description="unfinished jobs at a time; 0: no jobs")
    job_kept_s: float = Field(description="a finished job is kept so long")


class Info(BaseModel):
    """Which model answers, what it takes, and the limits."""

    model: str = Field(description="name of the model")
    version: str | None = Field(description="in the registry; null where it is not from there")
    bundle: str = Field(description="hash of the bundle")
    data: str = Field(description="hash of what it was trained on")
    base: str = Field(description="hash of its base")
    code: str = Field(description="fingerprint of the code that made it")
    scale: Scale
    formats: Formats
    parameters: dict[str, dict[str, Any]] = Field(description="JSON schema of each parameter")
    limits: Limits


def info_of(model: Model, settings: ServeSettings) -> Info:
    """What is said of a model in use."""
    made = model.manifest.provenance
    return Info(
        model=model.manifest.model_name,
        version=model.located.version,
        bundle=model.manifest.bundle_hash,
        data=made.data,
        base=made.base,
        code=made.code,
        scale=Scale(min=MIN_SCALE, max=MAX_SCALE, default=DEFAULT_SCALE),
        formats=Formats(read=list(readable()), written=writable()),
        parameters=parameter_schemas(),
        limits=_limits(settings),
    )


def info_schemas() -> dict[str, Any]:
    """JSON schemas of `Info` and its parts, by name, for OpenAPI's components."""
    schema = Info.model_json_schema(ref_template=_REF)
    parts: dict[str, Any] = schema.pop("$defs")
    return {"Info": schema, **parts}


def _limits(settings: ServeSettings) -> Limits:
    return Limits(
        upload_bytes=settings.max_upload_bytes,
        input_px=settings.max_input_px,
        output_px=settings.max_output_px,
        memory_bytes=settings.memory_bytes,
        side_px=Side(min=MIN_SIDE_PX),
        deadline_s=Deadline(default=settings.deadline_s, max=settings.max_deadline_s),
        wait_s=settings.max_wait_s,
        jobs=settings.max_jobs,
        job_kept_s=settings.jobs_keep_s,
    )
