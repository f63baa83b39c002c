"""Open-loop load: requests leave at their times whether or not earlier ones were answered.

A closed loop would send less as the service slows down and so hide the waiting; here latency counts
from the moment at which a request was meant to leave. The load comes from the machine that serves,
so what it takes is missing there.
"""

from __future__ import annotations

import asyncio
import re
import statistics
import threading
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np

TIMEOUT_S = 120
_BUFFER = 2**20
_EDGE = b"an-edge-that-no-picture-has"


@dataclass(frozen=True)
class Shot:
    """One request: which picture, and when it is to leave, seconds from the start."""

    at_s: float
    kind: str


@dataclass(frozen=True)
class Hit:
    """Its answer; ``latency_s`` counts from ``at_s``. Status 0: no answer."""

    shot: Shot
    status: int
    latency_s: float


class Target:
    """How a service is asked for a picture.

    A request is written whole, as bytes made beforehand, on a connection of its own, and nothing of
    its answer is read but the status and the length: a client's comfort would take a tenth of the
    two cores that the service is measured on.

    Args:
        url: of the endpoint, with its parameters.
        bodies: picture by kind.
        form: whether the picture is the form field ``image``; else it is the body.
    """

    def __init__(self, url: str, bodies: dict[str, bytes], form: bool) -> None:
        where = urlsplit(url)
        self._place = where.hostname or "localhost", where.port or 80
        path = f"{where.path}?{where.query}".encode()
        self._requests = {kind: _request(path, body, form) for kind, body in bodies.items()}

    async def ask(self, kind: str) -> int:
        """The status of one request, once all of its answer is there; 0: it is not."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                reader, writer = await asyncio.open_connection(*self._place, limit=_BUFFER)
                try:
                    writer.write(self._requests[kind])
                    return status_of(await reader.read())
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return 0


def _request(path: bytes, body: bytes, form: bool) -> bytes:
    kind = b"image/png"
    if form:
        field = b'Content-Disposition: form-data; name="image"; filename="a.png"'
        body = b"\r\n".join((b"--" + _EDGE, field, b"Content-Type: image/png", b"", body))
        body += b"\r\n--" + _EDGE + b"--\r\n"
        kind = b"multipart/form-data; boundary=" + _EDGE
    head = (
        b"POST " + path + b" HTTP/1.1",
        b"Host: localhost",
        b"Connection: close",
        b"Content-Type: " + kind,
        b"Content-Length: " + str(len(body)).encode(),
    )
    return b"\r\n".join((*head, b"", body))


def status_of(answer: bytes) -> int:
    """The status of an HTTP answer read to its end; 0 if it has no head or its body is cut."""
    head, found, body = answer.partition(b"\r\n\r\n")
    if not found or not head.startswith(b"HTTP/1.1 "):
        return 0
    length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
    whole = len(body) == int(length[1]) if length else body.endswith(b"\r\n0\r\n\r\n")
    return int(head[9:12]) if whole else 0


def poisson(rate: float, seconds: float, kinds: Sequence[str], seed: int) -> list[Shot]:
    """Arrivals at random, ``rate`` a second, of pictures drawn evenly."""
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.exponential(1 / rate, int(rate * seconds * 1.2) + 10))
    return [Shot(float(t), str(rng.choice(kinds))) for t in times if t < seconds]


def fire(target: Target, shots: Sequence[Shot]) -> list[Hit]:
    """Send every shot at its time and wait for all answers."""
    return asyncio.run(_fire(target, shots))


def saturate(target: Target, kinds: Sequence[str], seconds: float, width: int = 4) -> float:
    """Answers a second with ``width`` requests always under way: what the service can do."""
    return asyncio.run(_saturate(target, kinds, seconds, width))


def ideal_latencies(shots: Sequence[Shot], service_s: dict[str, float]) -> list[float]:
    """The same arrivals through one server that takes them in order and never idles in vain."""
    free, latencies = 0.0, []
    for shot in shots:
        free = max(free, shot.at_s) + service_s[shot.kind]
        latencies.append(free - shot.at_s)
    return latencies


def percentile(values: Sequence[float], q: float) -> float:
    """The q-th percentile; NaN of nothing."""
    return float(np.percentile(values, q)) if values else float("nan")


def resident_bytes(url: str) -> float:
    """Memory of our service, by its own metrics."""
    time.sleep(6)  # it is measured every five seconds
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    return float(text.split("\ntudsr_memory_bytes ")[1].split()[0])


class PeakMemory:
    """The most memory of our service while this lasts, by its own metrics, in ``bytes``."""

    def __init__(self, url: str) -> None:
        self.bytes, self._url, self._over = 0.0, url, threading.Event()
        self._failed: Exception | None = None
        self._watching = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._watching.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._watching.join()
        if self._failed is not None:
            raise self._failed

    def _watch(self) -> None:
        try:
            while not self._over.is_set():
                self.bytes = max(self.bytes, resident_bytes(self._url))
        except Exception as error:  # a peak that stopped growing would pass for a flat one
            self._failed = error


def alone_s(target: Target, kinds: Sequence[str], runs: int) -> dict[str, float]:
    """Median seconds of each kind with nobody else there."""
    return {
        kind: statistics.median(h.latency_s for h in fire_in_turn(target, kind, runs))
        for kind in kinds
    }


def fire_in_turn(target: Target, kind: str, runs: int) -> list[Hit]:
    """One after the other."""
    hits: list[Hit] = []
    for _ in range(runs):
        hits += fire(target, [Shot(0.0, kind)])
    return hits


async def _fire(target: Target, shots: Sequence[Shot]) -> list[Hit]:
    start = time.monotonic()

    async def one(shot: Shot) -> Hit:
        await asyncio.sleep(max(0.0, start + shot.at_s - time.monotonic()))
        status = await target.ask(shot.kind)
        return Hit(shot, status, time.monotonic() - start - shot.at_s)

    return await asyncio.gather(*(one(shot) for shot in shots))


async def _saturate(target: Target, kinds: Sequence[str], seconds: float, width: int) -> float:
    done, start = 0, time.monotonic()

    async def worker(k: int) -> None:
        nonlocal done
        while time.monotonic() < start + seconds:
            k += 1
            if await target.ask(kinds[k % len(kinds)]) == 200:
                done += 1

    await asyncio.gather(*(worker(k) for k in range(width)))
    return done / (time.monotonic() - start)
