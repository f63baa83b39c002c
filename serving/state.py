"""What the routes share: engine, jobs, and a count of what is held in memory for requests."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

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
        held: requests that are being read, worked on or answered.
        held_bytes: of their bodies, as far as they have arrived.
        sending_bytes: of results on their way.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self.settings = settings
        self.engine: Engine | None = None
        self.jobs: JobRunner | None = None
        self.held = self.held_bytes = self.sending_bytes = 0

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
    def holding(self, request: Request) -> Generator[Held]:
        """Count a request, and its body as it arrives, so that bodies cannot fill the memory.

        What a client only announces is not counted: it would keep others out by headers alone.

        Raises:
            Refusal: ``queue_full``: as many requests or bytes as allowed are held; ``draining``.
        """
        if self.engine is not None and self.engine.scheduler.draining:
            raise stopping()
        declared = request.headers.get("content-length", "")
        body = Held(self)
        if self.held >= self.settings.queue or self.sending_bytes > self.settings.sending_bytes:
            raise self.full()
        body.check(int(declared) if declared.isdigit() else 0)
        self.held += 1
        try:
            yield body
        finally:
            self.held -= 1
            self.held_bytes -= body.bytes

    @contextmanager
    def sending(self, size: int) -> Generator[None]:
        """Count a result of ``size`` bytes while it is sent: not all clients read."""
        self.held, self.sending_bytes = self.held + 1, self.sending_bytes + size
        try:
            yield
        finally:
            self.held, self.sending_bytes = self.held - 1, self.sending_bytes - size

    def full(self) -> Refusal:
        """Too much is held: why, and when to ask again."""
        how = self.settings
        return Refusal(
            "queue_full",
            f"{self.held} requests with {self.held_bytes:,} bytes are held and "
            f"{self.sending_bytes:,} bytes of results on their way, the limits are {how.queue}, "
            f"{how.held_bytes:,} and {how.sending_bytes:,}: ask again soon",
            retry_after_s=1,
        )


class Held:
    """A request's body as far as it has arrived; ``bytes`` of it count in its service."""

    def __init__(self, service: Service) -> None:
        self.service, self.bytes = service, 0

    def add(self, size: int) -> None:
        """Count ``size`` bytes more.

        Raises:
            Refusal: ``queue_full``: with those of others they are too many.
        """
        self.check(size)
        self.bytes += size
        self.service.held_bytes += size

    def check(self, size: int) -> None:
        """Whether there is room for ``size`` bytes more; one body has it whatever its size.

        Raises:
            Refusal: ``queue_full``.
        """
        others = self.service.held_bytes - self.bytes
        if others and self.service.held_bytes + size > self.service.settings.held_bytes:
            raise self.service.full()
