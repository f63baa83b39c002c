"""The service of tests/serving."""

from tests.serving.conftest import inside  # noqa: F401
