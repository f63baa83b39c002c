"""10,000 hostile pictures against the reader: no crash, no hang over 2 s, memory bounded.

    python -m benchmarks.hostile [--count 10000] [--seed 7] [--serve BUNDLE | --url URL]

The reader runs in a process of its own, which is watched: a crash, a hang or a growing memory is
seen from outside. With --serve or --url the same pictures go to a service as well, one of its own
or one that runs, which enlarges what can be read; every tenth goes as a job. Reader and service
together took 21 minutes on two cores of a Xeon, partly beside other work. Writes
benchmarks/results/hostile.{json,md}; exits with 1 if anything went wrong or memory grew.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import time
import warnings
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.load import resident_bytes
from benchmarks.machine import machine_name
from serving.refusal import CODES
from tests.hostile.corpus import hostile_pictures
from tests.serving.conftest import Server
from tudsr.client import Client, ServiceError
from tudsr.errors import ImageError
from tudsr.images.atomic import write_json, write_text
from tudsr.images.read import read_image
from tudsr.profile import PROJECT_ROOT

RESULTS = PROJECT_ROOT / "benchmarks" / "results"
HANG_S, KILL_S, MAX_PX = 2.0, 20.0, 4_000_000
# What memory may grow by after the first tenth, which has every kind of picture.
MOST_GROWTH = 0.15
JOB_EVERY = 10


def main() -> None:
    """Feed the corpus and write what became of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=7)
    service = parser.add_mutually_exclusive_group()
    service.add_argument("--url", help="a running service that gets the same pictures")
    service.add_argument("--serve", help="a bundle whose service gets them")
    given = parser.parse_args()
    told: dict[str, Any] = {"machine": machine_name(), "count": given.count, "seed": given.seed}
    told["reader"] = _reader(given.seed, given.count)
    if given.url or given.serve:
        with nullcontext(given.url) if given.url else _served(given.serve) as url:
            told["endpoint"] = _endpoint(url, given.seed, given.count)
    write_json(RESULTS / "hostile.json", told)
    write_text(RESULTS / "hostile.md", _table(told))
    print(_table(told))
    parts = [told[who] for who in ("reader", "endpoint") if who in told]
    sys.exit(any(part["wrong"] or not _bounded(part) for part in parts))


class Watched:
    """A reader in a process of its own, started anew after a crash or a hang."""

    def __init__(self) -> None:
        self._start()

    def read(self, name: str, data: bytes) -> tuple[str, float, int]:
        """(code, seconds, peak memory of the process in bytes) of one picture."""
        start = time.monotonic()
        try:
            self.end.send((name, data))
            if not self.end.poll(KILL_S):
                self._again()
                return "hung", KILL_S, 0
            code, peak = self.end.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self._again()
            return "crashed", time.monotonic() - start, 0
        return code, time.monotonic() - start, peak

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.join()

    def _again(self) -> None:
        self.close()
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.end, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other,), daemon=True)
        self.process.start()
        other.close()
        self.end.send(
            ("empty.png", b"")
        )  # what starting and importing take is not the first picture's time
        self.end.recv()


def _serve(end: Connection) -> None:
    """Read what is sent, under its name; an error that is not an ImageError is told by its type."""
    warnings.simplefilter("ignore")
    with TemporaryDirectory() as folder:
        while True:
            name, data = end.recv()
            path = Path(folder) / name
            path.write_bytes(data)
            try:
                read_image(path, MAX_PX)
                code = "read"
            except ImageError as error:
                code = error.code
            except Exception as error:
                code = f"unforeseen {type(error).__name__}"
            path.unlink()
            end.send((code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


def _reader(seed: int, count: int) -> dict[str, Any]:
    reader, codes, slow = Watched(), Counter[str](), []
    peaks: list[int] = []
    for name, data in hostile_pictures(seed, count):
        code, seconds, peak = reader.read(name, data)
        codes[code] += 1
        peaks.append(peak)
        if seconds > HANG_S or code in ("hung", "crashed") or code.startswith("unforeseen"):
            slow.append({"name": name, "code": code, "seconds": round(seconds, 2)})
    reader.close()
    early = max(peaks[: max(1, count // 10)])
    return {
        "codes": dict(codes.most_common()),
        "wrong": slow,
        "peak_bytes": max(peaks),
        "peak_growth_after_a_tenth": max(peaks) / early - 1,
    }


@contextmanager
def _served(bundle: str) -> Generator[str]:
    """The address of a service of this bundle."""
    command = [sys.executable, "-m", "tudsr", "serve", "--model", bundle]
    with TemporaryDirectory() as folder:
        state = str(Path(folder) / "state")
        with Server(command, Path(folder) / "log", TUDSR_SERVE_STATE=state) as server:
            yield server.url


def _endpoint(url: str, seed: int, count: int) -> dict[str, Any]:
    client, codes, wrong = Client(url), Counter[str](), []
    memory: list[float] = []
    slowest_s = 0.0
    for k, (name, data) in enumerate(hostile_pictures(seed, count)):
        if k % max(1, count // 20) == 0:
            memory.append(resident_bytes(url))
        start = time.monotonic()
        try:
            _enlarge(client, data, as_job=k % JOB_EVERY == 0)
            code, status = "enlarged", 200
        except ServiceError as error:
            code = error.code
            known = CODES.get(code)  # a job's failure comes without a status
            status = error.status or (known.status if known else 0)
        codes[code] += 1
        seconds = time.monotonic() - start
        if status == 200:  # time that the model needs is no hang
            slowest_s = max(slowest_s, seconds)
        elif status not in (413, 415, 422) or seconds > HANG_S:
            wrong.append({"name": name, "code": code, "seconds": round(seconds, 2)})
    return {
        "slowest_enlarged_s": round(slowest_s, 2),
        "codes": dict(codes.most_common()),
        "wrong": wrong,
        "peak_bytes": max(memory),
        "peak_growth_after_a_tenth": max(memory) / max(memory[:3]) - 1,
    }


def _enlarge(client: Client, data: bytes, as_job: bool) -> None:
    if not as_job:
        client.upscale(data, scale=1.5)
        return
    job = client.submit(data, scale=1.5)
    try:
        client.wait(job)
    finally:
        client.delete(job)


def _bounded(part: dict[str, Any]) -> bool:
    return part["peak_growth_after_a_tenth"] <= MOST_GROWTH


def _table(told: dict[str, Any]) -> str:
    lines = [f"{told['machine']}; {told['count']:,} pictures, seed {told['seed']}.", ""]
    for who, slow in (("reader", "took over 2 s"), ("endpoint", "refused after more than 2 s")):
        if who not in told:
            continue
        part = told[who]
        lines += [f"{who}: {len(part['wrong'])} crashed, hung, {slow} or unforeseen.", ""]
        lines += [f"Peak memory {part['peak_bytes'] / 2**20:.0f} MiB; after the first tenth "
                  f"it grew by {part['peak_growth_after_a_tenth']:.1%}: "
                  f"{'bounded' if _bounded(part) else 'NOT bounded'}, {MOST_GROWTH:.0%} are "
                  "allowed.", ""]  # fmt: skip
        if "slowest_enlarged_s" in part:
            lines += [f"The slowest to enlarge took {part['slowest_enlarged_s']:.1f} s.", ""]
        lines += ["| code | pictures |", "| --- | --: |"]
        lines += [f"| {code} | {n:,} |" for code, n in part["codes"].items()] + [""]
        lines += [f"- {w['name']}: {w['code']}, {w['seconds']} s" for w in part["wrong"][:20]]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    main()
