"""What the routes share: engine, jobs, and a count of what is held in memory for requests."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager

from starlette.requests import Request

from serving.engine import Engine
from serving.job_runner import JobRunner
from serving.refusal import Refusal
from serving.scheduler import stopping
from serving.settings import ServeSettings


class Service:
    """What the routes call; one for each process.

    Attributes:
        engine, jobs: None until the service has started.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self.settings = settings
        self.engine: Engine | None = None
        self.jobs: JobRunner | None = None
        self.held = self.held_bytes = 0

    @property
    def running(self) -> tuple[Engine, JobRunner]:
        """Engine and jobs.

        Raises:
            Refusal: ``model_unavailable``: not started yet.
        """
        if self.engine is None or self.jobs is None:
            raise Refusal("model_unavailable", "the service is starting", retry_after_s=5)
        return self.engine, self.jobs

    @contextmanager
    def holding(self, request: Request) -> Generator[None]:
        """Count a request and its body while it is held, so that bodies cannot fill the memory.

        Raises:
            Refusal: ``queue_full``: as many requests or bytes as allowed are held; ``draining``.
        """
        if self.engine is not None and self.engine.scheduler.draining:
            raise stopping()
        declared = request.headers.get("content-length", "")
        size = int(declared) if declared.isdigit() else self.settings.max_upload_bytes
        full = self.held >= self.settings.queue
        if full or (self.held and self.held_bytes + size > self.settings.held_bytes):
            raise Refusal(
                "queue_full",
                f"{self.held} requests with {self.held_bytes:,} bytes are held, the limits are "
                f"{self.settings.queue} and {self.settings.held_bytes:,}: ask again soon",
                retry_after_s=1,
            )
        with self._counted(1, size):
            yield

    def sending(self, result: bytes) -> AbstractContextManager[None]:
        """Counts a result while it is sent: clients that do not read fill the memory no less."""
        return self._counted(1, len(result))

    @contextmanager
    def _counted(self, requests: int, size: int) -> Generator[None]:
        self.held, self.held_bytes = self.held + requests, self.held_bytes + size
        try:
            yield
        finally:
            self.held, self.held_bytes = self.held - requests, self.held_bytes - size
