"""The BentoML service: ``/readyz`` and ``/livez`` are BentoML's, the rest is ours.

The picture goes in and out as plain bytes through a mounted application: no BentoML endpoint is
declared, so none of its body formats (pickle among them) is accepted. BentoML's own limits on time
and concurrency are off: they would answer without a code, a reason or a Retry-After. So are its
metrics: they keep a set of figures for every path ever asked for, each job's among them.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

import bentoml

from serving.app import make_app
from serving.engine import Engine, bundled_model
from serving.guard import around
from serving.job_runner import JobRunner
from serving.jobs import JobStore
from serving.settings import load_settings
from serving.state import Service
from tudsr.machine import share_one_heap

_NO_LIMIT_S = 10**9

share_one_heap()

settings = load_settings()
service = Service(settings)


@bentoml.service(
    name="tudsr",
    workers=1,
    traffic={"timeout": _NO_LIMIT_S},
    metrics={"enabled": False},
    tracing={"excluded_urls": ".*"},
)
@bentoml.asgi_app(make_app(service))
class Tudsr:
    """Enlarges pictures with the champion, or with the bundle that the Bento carries."""

    def __init__(self) -> None:
        model = settings.model or bundled_model()
        engine = Engine(settings.model_copy(update={"model": model}))
        store = JobStore(
            settings.state, settings.max_jobs, settings.jobs_bytes, settings.jobs_keep_s
        )
        service.engine, service.jobs = engine, JobRunner(engine, store)
        service.jobs.start()
        _drain_on_sigterm(engine)

    def __is_ready__(self) -> bool:
        """Ready when the model has enlarged its warm-up picture, until the service is stopped."""
        return service.engine is not None and service.engine.ready


for middleware, options in around(settings):
    Tudsr.add_asgi_middleware(middleware, **options)


def _drain_on_sigterm(engine: Engine) -> None:
    """Let a signal reach the server only when what runs is done or the grace time is over.

    At a signal the server closes its port, and who asks then waits in vain: the parent process
    keeps the socket open. Until then its requests are answered, new pictures with 503. The signal
    may come from the parent, from outside, or from both: the first counts.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        before: Any = signal.getsignal(number)

        def stop(signum: int, frame: FrameType | None, before: Any = before) -> None:
            if done.is_set():
                before(signum, frame)
            engine.scheduler.drain(settings.grace_s, lambda: end(signum))

        def end(signum: int) -> None:
            done.set()
            os.kill(os.getpid(), signum)

        signal.signal(number, stop)
