"""Lets ``zenml pipeline run tudsr_base`` find the pipeline.

A SOURCE without a dot makes ZenML load the module itself, so the pipeline takes the module's place.
"""

import sys
from typing import Any

from pipelines.base import tudsr_base

_module: Any = tudsr_base
sys.modules[__name__] = _module
