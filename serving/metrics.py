"""What Prometheus reads from ``/metrics``.

BentoML may have set Prometheus up to collect from several processes through files, so gauges name
how those are joined, and nothing may be registered before its environment is set: hence inside a
function, once a process.
"""

from __future__ import annotations

import os
import threading
from functools import cache
from pathlib import Path
from typing import Any

# Pixels of the result: names are label values, so there are few and they stay.
SIZE_CLASSES = (("s", 1_000_000), ("m", 4_200_000), ("l", 17_000_000))
_LOCK = threading.Lock()
_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)


class Metrics:
    """The service's counters; see docs/serving.md."""

    def __init__(self) -> None:
        from prometheus_client import Counter, Gauge, Histogram

        live: Any = {"multiprocess_mode": "livemostrecent"}
        by_size: Any = {"labelnames": ["size"], "buckets": _SECONDS}
        self.requests = Counter("tudsr_requests_total", "Answered requests", ["route", "status"])
        self.request_seconds = Histogram(
            "tudsr_request_seconds",
            "From a request's head to its answer's end",
            ["route"],
            buckets=_SECONDS,
        )
        self.refusals = Counter("tudsr_refusals_total", "Refused requests", ["reason"])
        self.queue_tiles = Gauge(
            "tudsr_queue_tiles", "Tiles of accepted pictures still to be made", **live
        )
        self.queue_seconds = Histogram(
            "tudsr_queue_seconds", "Wait before the first work", **by_size
        )
        self.compute_seconds = Histogram(
            "tudsr_compute_seconds", "From the start of work to the encoded result", **by_size
        )
        self.tiles = Counter("tudsr_tiles_total", "Tiles through the model", ["stage"])
        self.remade_tiles = Counter(
            "tudsr_remade_tiles_total", "Tiles that were not finite and were made again in fp32"
        )
        self.batch_tiles = Histogram(
            "tudsr_batch_tiles", "Tiles that went through together", buckets=(1, 2, 4, 8, 16, 32)
        )
        self.jobs = Gauge("tudsr_jobs", "Jobs by state", ["state"], **live)
        self.memory = Gauge("tudsr_memory_bytes", "Resident memory of the service", **live)
        self.model = Gauge(
            "tudsr_model_info", "1 for the model in use", ["version", "bundle"], **live
        )

    def uses(self, version: str, bundle: str, now: bool) -> None:
        """Note that a model is in use, or no longer."""
        self.model.labels(version, bundle[:12]).set(1 if now else 0)

    def measure_memory(self) -> None:
        """Read the resident size; nothing where /proc is not there."""
        try:
            pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
        except OSError:
            return
        self.memory.set(pages * 4096)


def metrics() -> Metrics:
    """Those of this process; made by whichever thread asks first, and only by it."""
    with _LOCK:
        return _made()


@cache
def _made() -> Metrics:
    return Metrics()


def exposition() -> tuple[bytes, str]:
    """All figures as Prometheus' text, and its media type."""
    from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector

    metrics()
    registry = REGISTRY
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
    return generate_latest(registry), CONTENT_TYPE_LATEST


def size_class(result_px: int) -> str:
    """``s``, ``m``, ``l`` or ``xl`` by the pixels of the result."""
    return next((name for name, limit in SIZE_CLASSES if result_px <= limit), "xl")
