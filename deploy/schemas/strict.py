"""The base of our own schemas: a field that is not named is a fault."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]


class Strict(BaseModel):
    """Names as in YAML; types are not converted."""

    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel)


class Meta(Strict):
    """ObjectMeta, as far as we write it."""

    name: Name
    namespace: Name | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class Requirement(Strict):
    """One expression of a label selector."""

    key: str
    operator: str = Field(pattern="^(In|NotIn|Exists|DoesNotExist)$")
    values: list[str] = []


class Selector(Strict):
    """LabelSelector."""

    match_labels: dict[str, str] = {}
    match_expressions: list[Requirement] = []


class Toleration(Strict):
    """A taint that is put up with."""

    key: str | None = None
    operator: str = Field(default="Equal", pattern="^(Exists|Equal)$")
    value: str | None = None
    effect: str | None = Field(default=None, pattern="^(NoSchedule|PreferNoSchedule|NoExecute)$")
    toleration_seconds: int | None = None
