"""The description of the endpoint, held against the endpoint by generated requests."""

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from serving.app import make_app
from serving.guard import Guard
from serving.settings import ServeSettings
from serving.state import Service
from tests.conftest import scene
from tests.serving.fakes import encoded

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
PICTURE = encoded(scene(1, 16))
SERVICE = Service(ServeSettings(max_upload_bytes=400_000))
schema = schemathesis.openapi.from_asgi(
    "/openapi.json", Guard(make_app(SERVICE), max_bytes=400_000, body_timeout_s=60)
).exclude(path_regex="^/(livez|readyz|metrics)$")  # BentoML's: tests/serving/test_server.py


@pytest.fixture(scope="module", autouse=True)
def started(inside):
    """The description is there before the model is; requests need the model."""
    SERVICE.engine, SERVICE.jobs = inside.engine, inside.jobs


@schema.parametrize()
@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_what_is_described_is_what_happens(case):
    """Half of the raw bodies become a real picture, so that parameters get as far as the model."""
    if isinstance(case.body, bytes) and len(case.body) % 2:
        case.body = PICTURE
    case.call_and_validate(checks=CHECKS)
