"""The Serving goals: our endpoint beside a stock BentoML service of the same model.

    python -m benchmarks.serving [--seconds 90] [--model BUNDLE]

Each service runs alone, in turn, on the same arrivals. Four phases a service: cold start, each
picture alone, saturation (closed loop), then open-loop Poisson load at 70 % and at three times our
saturation. Then what encoding costs. Without --model a bundle of random weights is made: load does
not depend on what the weights are. About 9 minutes at 90 seconds a phase. Writes
benchmarks/results/serving.{json,md}.
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.load import (
    Hit,
    Shot,
    Target,
    alone_s,
    fire,
    ideal_latencies,
    percentile,
    poisson,
    saturate,
)
from benchmarks.machine import machine_name
from tests.conftest import random_bundle, scene
from tests.serving.conftest import Server
from tudsr.images.atomic import write_json, write_text
from tudsr.images.picture import Picture
from tudsr.images.read import read_image
from tudsr.images.write import encode_image
from tudsr.profile import PROJECT_ROOT

RESULTS = PROJECT_ROOT / "benchmarks" / "results"
SIDES = {"64": 64, "96": 96, "128": 128}
SCALE, LOAD, OVERLOAD = 4, 0.7, 3.0
_REFUSED = (429, 503)


def main() -> None:
    """Run both services and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=90, help="of each load phase")
    parser.add_argument("--model", type=Path, help="a bundle's folder")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        bundle = given.model or random_bundle(work, tile_px=256, overlap_px=32)
        ours, shots = _ours(bundle, work, given.seconds)
        stock = _stock(bundle, work, shots, ours["saturation_per_s"], given.seconds)
    told: dict[str, Any] = {"machine": machine_name(), "seconds": given.seconds}
    told |= {"sides_px": list(SIDES.values()), "scale": SCALE, "ours": ours, "stock": stock}
    told |= {"encode_s": _encode_seconds(), "goals": _goals(ours, stock)}
    write_json(RESULTS / "serving.json", told)
    write_text(RESULTS / "serving.md", _table(told))
    print(_table(told))


def _say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


def _ours(bundle: Path, work: Path, seconds: float) -> tuple[dict[str, Any], list[Shot]]:
    command = [sys.executable, "-m", "tudsr", "serve", "--model", str(bundle)]
    environment = {"TUDSR_SERVE_STATE": str(work / "state"), "TUDSR_SERVE_MAX_WAIT_S": "5"}
    start = time.monotonic()
    with Server(command, work / "ours.log", **environment) as server:
        told: dict[str, Any] = {"cold_start_s": time.monotonic() - start}
        target = Target(f"{server.url}/v1/upscale?scale={SCALE}", _bodies(), form=False)
        _say(f"ours is up after {told['cold_start_s']:.0f} s")
        told |= _calm(target, seconds)
        _say(f"ours: {told['saturation_per_s']:.2f} a second at saturation")
        shots = poisson(LOAD * told["saturation_per_s"], seconds, list(SIDES), seed=1)
        told["at_70"] = _under_load(fire(target, shots))
        told["occupied_s"] = _occupied_s(told["alone_s"], told["saturation_per_s"])
        ideal = ideal_latencies(shots, told["occupied_s"])
        _say("ours: three times that")
        told["ideal_at_70"] = {"p50_s": percentile(ideal, 50), "p99_s": percentile(ideal, 99)}
        before = _memory(server.url)
        told["at_300"] = _overload(target, told["saturation_per_s"], seconds)
        told["memory_growth"] = _memory(server.url) / before - 1
        told["around_model"] = _around_model(server.url)
    return told, shots


def _occupied_s(alone_s: dict[str, float], saturation_per_s: float) -> dict[str, float]:
    """For how long a picture keeps the service busy: of the measured kinds, evenly mixed, one
    after the other, come as many a second as at saturation. Alone a picture takes longer, since
    nothing is done beside it; a queue of those times would be nearly full at 70 %."""
    share = len(alone_s) / (saturation_per_s * sum(alone_s.values()))
    return {kind: seconds * share for kind, seconds in alone_s.items()}


def _stock(
    bundle: Path, work: Path, shots: list[Shot], rate: float, seconds: float
) -> dict[str, Any]:
    command = [sys.executable, "-m", "bentoml", "serve", "benchmarks.stock_service:Stock"]
    command += ["--working-dir", str(PROJECT_ROOT)]
    start = time.monotonic()
    with Server(command, work / "stock.log", BUNDLE=str(bundle)) as server:
        told: dict[str, Any] = {"cold_start_s": time.monotonic() - start}
        target = Target(f"{server.url}/upscale?scale={SCALE}", _bodies(), form=True)
        _say(f"stock is up after {told['cold_start_s']:.0f} s")
        told |= _calm(target, seconds)
        told["at_70"] = _under_load(fire(target, shots))
        _say("stock: three times saturation")
        told["at_300"] = _overload(target, rate, seconds)
    return told


def _calm(target: Target, seconds: float) -> dict[str, Any]:
    """Each picture alone, and how many a second the service can do."""
    alone = alone_s(target, list(SIDES), 5)
    return {"alone_s": alone, "saturation_per_s": saturate(target, list(SIDES), seconds / 3)}


def _under_load(hits: list[Hit]) -> dict[str, Any]:
    good = [hit.latency_s for hit in hits if hit.status == 200]
    return {
        "asked": len(hits),
        "answered": len(good),
        "p50_s": percentile(good, 50),
        "p99_s": percentile(good, 99),
    }


def _overload(target: Target, rate: float, seconds: float) -> dict[str, Any]:
    """Three times what the service can do; good answers that came while the load was on count."""
    span = seconds / 2
    hits = fire(target, poisson(OVERLOAD * rate, span, list(SIDES), seed=2))
    refused = [hit.latency_s for hit in hits if hit.status in _REFUSED]
    in_time = [h for h in hits if h.status == 200 and h.shot.at_s + h.latency_s <= span]
    others = [h for h in hits if h.status != 200 and h.status not in _REFUSED]
    return {
        **_under_load(hits),
        "goodput": len(in_time) / span / rate,
        "refused": len(refused),
        "refused_p99_s": percentile(refused, 99),
        "failed_otherwise": len(others),
    }


def _around_model(url: str) -> float:
    """All but the model (HTTP, decoding, encoding) at 2048² over Pillow's default PNG writing."""
    body = _png(512)
    shares: list[float] = []
    for _ in range(3):
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
    return statistics.median(shares)


def _encode_seconds() -> dict[str, dict[str, float]]:
    """Seconds and megabytes of each way to encode one 2048² picture, median of five."""
    large = Image.fromarray(scene(3, 512)).resize((2048, 2048), Image.Resampling.BICUBIC)
    picture = Picture(np.asarray(large, np.float32) / 255)
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


def _goals(ours: dict[str, Any], stock: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Each goal of the project, its figure, and whether it is met."""
    tail = ours["at_70"]["p99_s"] / ours["at_70"]["p50_s"]
    ideal = ours["ideal_at_70"]["p99_s"] / ours["ideal_at_70"]["p50_s"]
    figures: list[tuple[str, float, bool]] = [
        ("p99/p50 at 70 % over the ideal queue's, ≤ 1.1", tail / ideal, tail / ideal <= 1.1),
        ("p99 at 70 % over stock, ≤ 0.6", (r := ours["at_70"]["p99_s"] / stock["at_70"]["p99_s"]),
         r <= 0.6),
        ("goodput at 3 x saturation, ≥ 0.95", (g := ours["at_300"]["goodput"]), g >= 0.95),
        ("neither answered nor refused, 0", (f := ours["at_300"]["failed_otherwise"]), f == 0),
        ("memory growth under overload, ≤ 0.05", (m := ours["memory_growth"]), m <= 0.05),
        ("all but the model at 2048² over Pillow's PNG, ≤ 0.15", (a := ours["around_model"]),
         a <= 0.15),
    ]  # fmt: skip
    return {name: {"figure": figure, "met": met} for name, figure, met in figures}


def _table(told: dict[str, Any]) -> str:
    lines = [f"{told['machine']}; {told['seconds']:g} s a phase; x{told['scale']}.", ""]
    lines += ["| goal | figure | met |", "| --- | --: | --- |"]
    lines += [
        f"| {name} | {row['figure']:.3g} | {'yes' if row['met'] else 'no'} |"
        for name, row in told["goals"].items()
    ]
    lines += ["", "| | ours | stock BentoML |", "| --- | --: | --: |"]
    for label, path in _ROWS.items():
        values = [_at(told[who], path) for who in ("ours", "stock")]
        lines.append(f"| {label} | {values[0]:.4g} | {values[1]:.4g} |")
    lines += ["", "| 2048² as | seconds | MB |", "| --- | --: | --: |"]
    lines += [f"| {k} | {v['s']:.3f} | {v['MB']:.2f} |" for k, v in told["encode_s"].items()]
    return "\n".join(lines) + "\n"


_ROWS = {
    "cold start, s": ("cold_start_s",),
    "64² alone, s": ("alone_s", "64"),
    "128² alone, s": ("alone_s", "128"),
    "saturation, pictures a second": ("saturation_per_s",),
    "p50 at 70 %, s": ("at_70", "p50_s"),
    "p99 at 70 %, s": ("at_70", "p99_s"),
    "answered at 70 %": ("at_70", "answered"),
    "goodput at 3 x": ("at_300", "goodput"),
    "p99 at 3 x of those answered, s": ("at_300", "p99_s"),
    "refused at 3 x": ("at_300", "refused"),
    "p99 of a refusal, s": ("at_300", "refused_p99_s"),
    "failed otherwise at 3 x": ("at_300", "failed_otherwise"),
}


def _at(told: Any, path: tuple[str, ...]) -> float:
    for key in path:
        told = told[key]
    return told


def _bodies() -> dict[str, bytes]:
    return {kind: _png(side) for kind, side in SIDES.items()}


def _png(side: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(scene(side, side)).save(stream, "PNG")
    return stream.getvalue()


def _memory(url: str) -> float:
    time.sleep(6)  # it is measured every five seconds
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    return float(text.split("\ntudsr_memory_bytes ")[1].split()[0])


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
