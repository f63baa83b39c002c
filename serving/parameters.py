"""What a request can ask for: one typed model that parses, documents and bounds it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import fields
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from tudsr.errors import SettingsError
from tudsr.images.write import PNG_LEVEL, QUALITY
from tudsr.upscale.cascade import MAX_SCALE, MIN_SCALE
from tudsr.upscale.target import Target

DEFAULT_SCALE = 4.0
_MAX_SIDE_PX = 1_000_000


class Parameters(BaseModel):
    """Parameters of ``/v1/upscale`` and ``/v1/jobs``, as query parameters or form fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale: float | None = Field(
        default=None,
        ge=MIN_SCALE,
        le=MAX_SCALE,
        description=f"total ratio; {DEFAULT_SCALE:g} where no size is asked for",
    )
    width: int | None = Field(
        default=None, ge=1, le=_MAX_SIDE_PX, description="of the result, pixels"
    )
    height: int | None = Field(
        default=None,
        ge=1,
        le=_MAX_SIDE_PX,
        description="of the result, pixels; with a width: the box that it fits in",
    )
    longest: int | None = Field(
        default=None, ge=1, le=_MAX_SIDE_PX, description="longer side of the result, pixels"
    )
    megapixels: float | None = Field(
        default=None, gt=0, le=10_000, description="of the result, width x height / 10⁶"
    )
    fidelity: float = Field(
        default=1, ge=0, le=1, description="0, most faithful, to 1, most generated"
    )
    format: Literal["png", "jpeg", "webp", "tiff", "avif"] | None = Field(
        default=None, description="of the result; unless given, the picture's own, else png"
    )
    quality: int = Field(default=QUALITY, ge=1, le=100, description="of jpeg, webp and avif")
    png_level: int = Field(
        default=PNG_LEVEL, ge=0, le=9, description="compression: 0 stores, 1 is fast, 9 slow"
    )
    colour: Literal["wavelet", "adain", "none"] | None = Field(
        default=None, description="correction of the result's colours; unless given, the model's"
    )
    strip: bool = Field(default=False, description="leave out EXIF, XMP and resolution")
    deadline_s: float | None = Field(
        default=None, gt=0, description="give up after so many seconds, up to the service's limit"
    )

    @field_validator("format", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        name = value.lower() if isinstance(value, str) else value
        return {"jpg": "jpeg", "tif": "tiff"}.get(name, name) if isinstance(name, str) else name

    @property
    def target(self) -> Target:
        """The size asked for, x4 where none is.

        Raises:
            SettingsError: sizes that contradict each other.
        """
        sizes = {f.name: getattr(self, f.name) for f in fields(Target)}
        return Target(**sizes) if any(sizes.values()) else Target(scale=DEFAULT_SCALE)

    @property
    def encoder(self) -> str | None:
        """The format under the library's name."""
        return self.format.upper() if self.format else None


def parse_parameters(given: Iterable[tuple[str, str]]) -> Parameters:
    """Parameters from (name, text) pairs.

    Raises:
        SettingsError: an unknown name, one given twice, or a value out of range; the message says
            what would do.
    """
    values: dict[str, str] = {}
    for name, text in given:
        if name not in Parameters.model_fields:
            raise SettingsError(_unknown(name))
        if name in values:
            raise SettingsError(f"{name} is given twice: give it once")
        values[name] = text
    try:
        return Parameters.model_validate({k: v for k, v in values.items() if v != ""})
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise SettingsError(f"{name} is {_short(first['input'])}: {_remedy(name)}") from None


def parameter_schemas() -> dict[str, dict[str, Any]]:
    """JSON schema of each parameter, without the null that stands for absence."""
    properties: dict[str, dict[str, Any]] = Parameters.model_json_schema()["properties"]
    return {name: _without_null(dict(schema)) for name, schema in properties.items()}


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    schema.pop("title", None)
    options = [o for o in schema.pop("anyOf", []) if o.get("type") != "null"]
    if schema.get("default", ...) is None:
        del schema["default"]
    return {**schema, **(options[0] if options else {})}


def _remedy(name: str) -> str:
    """The accepted values, from the schema."""
    schema = parameter_schemas()[name]
    if "enum" in schema:
        return f"give one of {', '.join(map(str, schema['enum']))}"
    if schema["type"] == "boolean":
        return "give true or false"
    kind = "a whole number" if schema["type"] == "integer" else "a number"
    low = f"from {schema['minimum']:g}" if "minimum" in schema else "above 0"
    high = f" to {schema['maximum']:g}" if "maximum" in schema else ""
    return f"give {kind} {low}{high}"


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, Parameters.model_fields, 1)
    hint = f"did you mean {near[0]}?" if near else f"give {', '.join(Parameters.model_fields)}"
    return f"{_short(name)} is no parameter: {hint}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
