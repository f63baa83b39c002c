"""The Serving goals: our endpoint beside a stock BentoML service of the same model.

    python -m benchmarks.serving [--rounds 5] [--seconds 60] [--model BUNDLE]

Both services are up throughout; one has load at a time. After a round that compiles what sizes and
batches there are come those that count. In each, saturation (closed loop) and open-loop Poisson
load take turns: stock at 70 % of what it can do just then, ours on the same arrivals, ours at 70 %
and at three times what ours can do just then (good answers count from the fifth second on, when the
queue is full); saturation is measured again behind that, and goodput told against the mean of both.
So a ratio is of figures a minute or two apart, and a machine that drifts moves both. Every round
draws the same arrivals, stretched to its rate: what its figures differ by is not luck in some
hundred draws. A goal whose figure spreads over the rounds by more than 10 % (the quartiles'
distance over the median) is not judged; how many rounds were within its limit is told beside that.
Stock runs the model as ours does. The load comes from the cores that serve; what it took of them is
told. Then what encoding costs. Without --model a bundle of random weights is made: load does not
depend on what the weights are. About 25 minutes. Writes benchmarks/results/serving.{json,md}.
"""

from __future__ import annotations

import argparse
import io
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.load import (
    Hit,
    PeakMemory,
    Target,
    alone_s,
    fire,
    ideal_latencies,
    percentile,
    poisson,
    saturate,
)
from benchmarks.machine import bundle_hash, machine_name
from benchmarks.serving_report import goals, table
from tests.conftest import random_bundle, scene
from tests.serving.conftest import Server
from tudsr.images.atomic import write_json, write_text
from tudsr.images.picture import Picture
from tudsr.images.read import read_image
from tudsr.images.write import encode_image
from tudsr.profile import PROJECT_ROOT

RESULTS = PROJECT_ROOT / "benchmarks" / "results"
SIDES = {"64": 64, "96": 96, "128": 128}
SCALE, LOAD, OVERLOAD, SETTLE_S = 4, 0.7, 3.0, 5.0
_REFUSED = (429, 503)


def main() -> None:
    """Run both services and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of ours")
    parser.add_argument("--seconds", type=float, default=60, help="of the load at 70 %%")
    parser.add_argument("--model", type=Path, help="a bundle's folder")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = given.model or random_bundle(Path(folder), tile_px=256, overlap_px=32)
        both = _measure(bundle, Path(folder), given.rounds, given.seconds)
    told: dict[str, Any] = {"machine": machine_name(), "seconds": given.seconds, **both}
    told |= {"model": given.model.name if given.model else "random weights"}
    told |= {"bundle": bundle_hash(str(given.model)) if given.model else None}
    told |= {"sides_px": list(SIDES.values()), "scale": SCALE}
    told |= {"encode_s": _encode_seconds(), "goals": goals(told["ours"], told["stock"])}
    write_json(RESULTS / "serving.json", told)
    write_text(RESULTS / "serving.md", table(told))
    print(table(told))


def _say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class _Up:
    """A service that is up, how it is asked, and what was seen of it so far."""

    url: str
    target: Target
    told: dict[str, Any]


@contextmanager
def _stock(bundle: Path, work: Path) -> Generator[_Up]:
    command = [sys.executable, "-m", "bentoml", "serve", "benchmarks.stock_service:Stock"]
    command += ["--working-dir", str(PROJECT_ROOT)]
    start = time.monotonic()
    with Server(command, work / "stock.log", BUNDLE=str(bundle)) as server:
        yield _up(start, server.url, f"{server.url}/upscale", form=True)


@contextmanager
def _ours(bundle: Path, work: Path) -> Generator[_Up]:
    command = [sys.executable, "-m", "tudsr", "serve", "--model", str(bundle)]
    environment = {"TUDSR_SERVE_STATE": str(work / "state"), "TUDSR_SERVE_MAX_WAIT_S": "5"}
    start = time.monotonic()
    with Server(command, work / "ours.log", **environment) as server:
        yield _up(start, server.url, f"{server.url}/v1/upscale", form=False)


def _make_form(bundle: Path) -> None:
    """In a process of its own: neither service's start is to have that in it."""
    program = (
        "import sys; from pathlib import Path; from tudsr.model.opening import open_runtime\n"
        "open_runtime(Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", program, str(bundle.resolve())], check=True)


def _up(start: float, url: str, endpoint: str, form: bool) -> _Up:
    cold_start_s = time.monotonic() - start
    _say(f"{endpoint} is up after {cold_start_s:.0f} s")
    target = Target(f"{endpoint}?scale={SCALE}", _bodies(), form)
    alone = alone_s(target, list(SIDES), 5)
    return _Up(url, target, {"cold_start_s": cold_start_s, "alone_s": alone, "rounds": []})


def _measure(bundle: Path, work: Path, rounds: int, seconds: float) -> dict[str, Any]:
    _make_form(bundle)
    with _stock(bundle, work) as stock, _ours(bundle, work) as ours:
        with PeakMemory(ours.url) as before:  # its sizes and batches are compiled here
            _round(stock, ours, seconds)
        for service in (stock, ours):
            service.told["rounds"].clear()
        with PeakMemory(ours.url) as under_load:
            for k in range(rounds):
                _round(stock, ours, seconds)
                goodput = ours.told["rounds"][-1]["at_300"]["goodput"]
                _say(f"round {k + 1}: goodput {goodput:.2f} at 300 %")
        ours.told["memory_growth"] = under_load.bytes / before.bytes - 1
        ours.told["around_model"] = _around_model(ours.url)
    return {"ours": ours.told, "stock": stock.told}


def _round(stock: _Up, ours: _Up, seconds: float) -> None:
    """Everything once, within four times ``seconds``."""
    rate = _saturation(stock, seconds)
    arrivals = poisson(LOAD * rate, seconds / 2, list(SIDES), seed=3)
    theirs = _under_load(fire(stock.target, arrivals))
    stock.told["rounds"].append({"saturation_per_s": rate, "at_stock_70": theirs})
    told: dict[str, Any] = {"at_stock_70": _under_load(fire(ours.target, arrivals))}
    rate = _saturation(ours, seconds)
    shots = poisson(LOAD * rate, seconds, list(SIDES), seed=1)
    told["at_70"] = _under_load(fire(ours.target, shots))
    ideal = ideal_latencies(shots, _occupied_s(ours.told["alone_s"], rate))
    told["ideal_at_70"] = {"p50_s": percentile(ideal, 50), "p99_s": percentile(ideal, 99)}
    told["tail"] = _tail(told["at_70"]) / _tail(told["ideal_at_70"])
    overload = _overload(ours.target, rate, seconds)
    told["saturation_per_s"] = (rate + _saturation(ours, seconds)) / 2
    overload["goodput"] = overload.pop("good_per_s") / told["saturation_per_s"]
    ours.told["rounds"].append({**told, "at_300": overload})


def _saturation(service: _Up, seconds: float) -> float:
    return saturate(service.target, list(SIDES), seconds / 3)


def _tail(percentiles: dict[str, Any]) -> float:
    return percentiles["p99_s"] / percentiles["p50_s"]


def _occupied_s(alone_s: dict[str, float], saturation_per_s: float) -> dict[str, float]:
    """For how long a picture keeps the service busy: of the measured kinds, evenly mixed, one
    after the other, come as many a second as at saturation. Alone a picture takes longer, since
    nothing is done beside it; a queue of those times would be nearly full at 70 %."""
    share = len(alone_s) / (saturation_per_s * sum(alone_s.values()))
    return {kind: seconds * share for kind, seconds in alone_s.items()}


def _under_load(hits: list[Hit]) -> dict[str, Any]:
    good = [hit.latency_s for hit in hits if hit.status == 200]
    return {
        "asked": len(hits),
        "answered": len(good),
        "p50_s": percentile(good, 50),
        "p99_s": percentile(good, 99),
    }


def _overload(target: Target, rate: float, seconds: float) -> dict[str, Any]:
    """Three times what the service can do; good answers that came while the load was on count,
    once it has been on for long enough to have filled the queue."""
    span, start = seconds / 2, time.process_time()
    settled = min(SETTLE_S, span / 2)
    hits = fire(target, poisson(OVERLOAD * rate, span, list(SIDES), seed=2))
    refused = [hit.latency_s for hit in hits if hit.status in _REFUSED]
    good = [hit.shot.at_s + hit.latency_s for hit in hits if hit.status == 200]
    in_time = sum(settled <= answered_s <= span for answered_s in good)
    others = [h for h in hits if h.status != 200 and h.status not in _REFUSED]
    return {
        **_under_load(hits),
        "good_per_s": in_time / (span - settled),
        "refused": len(refused),
        "refused_p99_s": percentile(refused, 99),
        "failed_otherwise": len(others),
        "client_s": (time.process_time() - start) / len(hits),
    }


def _around_model(url: str) -> list[float]:
    """All but the model (HTTP, decoding, encoding) at 2048² over Pillow's default PNG writing,
    nine times after one that compiles."""
    body = _png(512)
    shares: list[float] = []
    for _ in range(10):
        start = time.monotonic()
        request = urllib.request.Request(
            f"{url}/v1/upscale?scale=4", body, {"Content-Type": "image/png"}
        )
        with urllib.request.urlopen(request, timeout=300) as answer:
            large = answer.read()
            model_s = float(answer.headers["X-Tudsr-Compute-Seconds"])
        around_s = time.monotonic() - start - model_s + _seconds(lambda: read_image(body))
        pillow = Image.open(io.BytesIO(large)).convert("RGB")
        shares.append(around_s / _seconds(lambda p=pillow: p.save(io.BytesIO(), "PNG")))
    return shares[1:]


def _encode_seconds() -> dict[str, dict[str, float]]:
    """Seconds and megabytes of each way to encode one 2048² picture, median of five."""
    large = Image.fromarray(scene(3, 512)).resize((2048, 2048), Image.Resampling.BICUBIC)
    picture = Picture(np.asarray(large, np.float32) / np.float32(255))
    ways: dict[str, Callable[[], bytes]] = {
        f"png level {n}": lambda n=n: encode_image(picture, "PNG", png_level=n) for n in (0, 1, 6)
    }
    for fmt in ("WEBP", "JPEG"):
        for q in (75, 95):
            ways[f"{fmt.lower()} quality {q}"] = lambda f=fmt, q=q: encode_image(picture, f, q)
    return {
        name: {"s": statistics.median(_seconds(way) for _ in range(5)), "MB": len(way()) / 1e6}
        for name, way in ways.items()
    }


def _bodies() -> dict[str, bytes]:
    return {kind: _png(side) for kind, side in SIDES.items()}


def _png(side: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(scene(side, side)).save(stream, "PNG")
    return stream.getvalue()


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
