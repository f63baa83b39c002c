"""The BentoML service: ``/readyz``, ``/livez`` and ``/metrics`` are BentoML's, the rest is ours.

The picture goes in and out as plain bytes through a mounted application: no BentoML endpoint is
declared, so none of its body formats (pickle among them) is accepted.
"""

from __future__ import annotations

import os

import bentoml

from serving.app import make_app
from serving.engine import Engine, bundled_model

app = make_app()


@bentoml.service(name="tudsr", workers=1, traffic={"timeout": 600, "max_concurrency": 16})
@bentoml.asgi_app(app)
class Tudsr:
    """Enlarges pictures with the champion, or with the bundle that the Bento carries."""

    def __init__(self) -> None:
        model = os.environ.get("TUDSR_MODEL") or bundled_model()
        app.state.engine = Engine(model, os.environ.get("TUDSR_DEVICE", "auto"))

    def __is_ready__(self) -> bool:
        """Ready when a model is loaded."""
        return app.state.engine is not None
