"""What all settings have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Unit = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """Base of all settings: frozen, complete, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
