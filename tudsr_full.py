"""Lets ``zenml pipeline run tudsr_full`` find the pipeline.

A SOURCE without a dot makes ZenML load the module itself, so the pipeline takes the module's place.
"""

import sys
from typing import Any

from pipelines.full import tudsr_full

_module: Any = tudsr_full
sys.modules[__name__] = _module
