"""The pipelines, found by ``zenml pipeline run pipelines.NAME``."""

from pipelines.base import tudsr_base
from pipelines.full import tudsr_full

__all__ = ["tudsr_base", "tudsr_full"]
