"""Goal D1: our degradation chain beside a BasicSR-style chain on one core.

    python -m benchmarks.degradation [--short]

Both do the same recipes (same kernels, factors, strengths, qualities) to the same crops, by turns.
The peer is written for this comparison from the published description of Real-ESRGAN's chain as
BasicSR's CPU functions have it: float images in [0, 1]; OpenCV's filter and resize; NumPy's noise
pixel by pixel; OpenCV's JPEG. Drawing the recipe is timed by itself: it is ours for both.
Writes benchmarks/results/degradation.{json,md}; judges only where the runs' spread is below 10 %.
``--short`` runs 3 times 12 recipes instead of 9 times 40.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import machine_name
from tudsr.data.crops import draw_crop
from tudsr.data.degrade import Pixels, apply_recipe
from tudsr.data.photos import list_photographs, open_photo
from tudsr.data.presets import PRESETS, Preset
from tudsr.data.recipe import Noise, Recipe, Round, draw_recipe
from tudsr.images.atomic import write_json, write_text
from tudsr.profile import PROJECT_ROOT, load_profile

RESULTS = PROJECT_ROOT / "benchmarks" / "results"
GOAL = 2.0
LONG, SHORT = (9, 40), (3, 12)
MAX_SPREAD = 0.10
CASES = (("mild", 512, 4), ("standard", 512, 4), ("mild", 1024, 8))

Chain = Callable[[Pixels, Recipe], Pixels]


def main() -> None:
    """Time every case and write figures and table."""
    parser = argparse.ArgumentParser(description="Goal D1: the degradation chain on one core.")
    parser.add_argument("--short", action="store_true", help="fewer runs of fewer recipes")
    runs, recipes = SHORT if parser.parse_args().short else LONG
    cv2.setNumThreads(1)
    rows = [_case(preset, side, scale, runs, recipes) for preset, side, scale in CASES]
    spread = max(row[f"{who}_spread"] for row in rows for who in ("ours", "peer"))
    told: dict[str, Any] = {"machine": machine_name(), "goal": GOAL, "runs": runs}
    told |= {"recipes": recipes, "cases": rows}
    told["verdict"] = _verdict(rows, spread)
    write_json(RESULTS / "degradation.json", told)
    write_text(RESULTS / "degradation.md", _table(told))
    print((RESULTS / "degradation.md").read_text("utf-8"))


def peer_chain(hr: Pixels, recipe: Recipe) -> Pixels:
    """The same recipe as BasicSR's functions would do it."""
    random = np.random.RandomState(recipe.first.noise.seed % 2**32)
    image = _peer_jpeg(_peer_round(hr, recipe.first, random), recipe.first_quality)
    image = _peer_round(image, recipe.second, random)
    if not recipe.jpeg_last:
        image = _peer_jpeg(image, recipe.last_quality)
    image = _peer_resize(image, recipe.size, recipe.interpolation)
    if recipe.sinc is not None:
        image = _peer_filter(image, recipe.sinc)
    if recipe.jpeg_last:
        return _peer_jpeg(image, recipe.last_quality)
    return np.asarray(np.clip(image, 0, 1), np.float32)


def _peer_round(image: Pixels, settings: Round, random: np.random.RandomState) -> Pixels:
    if settings.blur is not None:
        image = _peer_filter(image, settings.blur)
    image = _peer_resize(image, settings.size, settings.interpolation)
    draw = _peer_gaussian if settings.noise.gaussian else _peer_poisson
    return np.clip(image + draw(image, settings.noise, random), 0, 1)


def _peer_resize(image: Pixels, size: tuple[int, int], interpolation: int) -> Pixels:
    resized = cv2.resize(image, (size[1], size[0]), interpolation=interpolation)
    return np.asarray(resized, np.float32)


def _peer_filter(image: Pixels, kernel: np.ndarray) -> Pixels:
    filtered = cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(filtered, np.float32)


def _peer_gaussian(image: Pixels, noise: Noise, random: np.random.RandomState) -> Pixels:
    shape = image.shape[:2] if noise.grey else image.shape
    made = random.randn(*shape).astype(np.float32) * np.float32(noise.strength / 255)
    return made[:, :, None].repeat(3, axis=2) if noise.grey else made


def _peer_poisson(image: Pixels, noise: Noise, random: np.random.RandomState) -> Pixels:
    source = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[:, :, None] if noise.grey else image
    source = np.clip((source * 255.0).round(), 0, 255) / 255.0
    photons = 2 ** np.ceil(np.log2(len(np.unique(source))))
    made = np.float32(random.poisson(source * photons) / float(photons)) - source
    return (made.repeat(3, axis=2) if noise.grey else made) * np.float32(noise.strength)


def _peer_jpeg(image: Pixels, quality: int) -> Pixels:
    pixels = np.clip(image, 0, 1) * 255.0
    _, data = cv2.imencode(".jpg", pixels, [int(cv2.IMWRITE_JPEG_QUALITY), quality])
    return np.asarray(cv2.imdecode(data, 1), np.float32) / np.float32(255.0)


def _case(preset: str, side: int, scale: int, runs: int, count: int) -> dict[str, Any]:
    ranges = PRESETS[preset]
    assert ranges is not None
    crops = _crops(side)
    recipes = [_recipe(ranges, side, scale, n) for n in range(count)]
    chains: dict[str, Chain] = {"ours": apply_recipe, "peer": peer_chain}
    times: dict[str, list[float]] = {name: [] for name in chains}
    for chain in chains.values():  # tables, caches, the allocator
        _seconds(chain, crops, recipes[:8])
    for _ in range(runs):
        for name, chain in chains.items():
            times[name].append(_seconds(chain, crops, recipes))
    drawing = _drawing_seconds(ranges, side, scale, count)
    row: dict[str, Any] = {"preset": preset, "crop_px": side, "scale": scale}
    for name, values in times.items():
        row[f"{name}_ms"] = round(1e3 * statistics.median(values) / count, 2)
        row[f"{name}_spread"] = round(_spread(values), 3)
    row["drawing_ms"] = round(1e3 * drawing, 2)
    ratios = [peer / ours for ours, peer in zip(times["ours"], times["peer"], strict=True)]
    row["times_faster"] = round(statistics.median(ratios), 2)
    row["alike_db"] = round(_likeness(crops, recipes), 1)
    return row


def _recipe(ranges: Preset, side: int, scale: int, number: int) -> Recipe:
    rng = np.random.default_rng((side, scale, number))
    return draw_recipe(ranges, (side, side), (side // scale, side // scale), rng)


def _seconds(chain: Chain, crops: list[Pixels], recipes: list[Recipe]) -> float:
    """Processor time, which other programs on the machine distort least."""
    started = time.process_time()
    for number, recipe in enumerate(recipes):
        chain(crops[number % len(crops)], recipe)
    return time.process_time() - started


def _drawing_seconds(ranges: Preset, side: int, scale: int, count: int) -> float:
    started = time.process_time()
    for number in range(count):
        _recipe(ranges, side, scale, number)
    return (time.process_time() - started) / count


def _spread(values: list[float]) -> float:
    """The range of the middle half of the runs over their median."""
    low, middle, high = statistics.quantiles(values, n=4)
    return (high - low) / middle


def _likeness(crops: list[Pixels], recipes: list[Recipe]) -> float:
    """Median PSNR between both results without noise: that they do the same, not a goal."""
    found: list[float] = []
    for number, recipe in enumerate(map(_silent, recipes)):
        hr = crops[number % len(crops)]
        error = float(np.mean((apply_recipe(hr, recipe) - peer_chain(hr, recipe)) ** 2))
        found.append(-10 * np.log10(max(error, 1e-10)))
    return statistics.median(found)


def _silent(recipe: Recipe) -> Recipe:
    first, second = (
        replace(r, noise=replace(r.noise, strength=0.0)) for r in (recipe.first, recipe.second)
    )
    return replace(recipe, first=first, second=second)


def _crops(side: int) -> list[NDArray[np.float32]]:
    photos = [p for p in list_photographs(PROJECT_ROOT / "data") if p.split == "train"][:8]
    settings = load_profile("tiny").data.crops
    pictures = [open_photo(photo.path).convert("RGB") for photo in photos]
    return [
        draw_crop(picture, side, np.random.default_rng((0, number)), settings)
        for number, picture in enumerate(pictures)
    ]


def _verdict(rows: list[dict[str, Any]], spread: float) -> str:
    least = min(row["times_faster"] for row in rows)
    if spread > MAX_SPREAD:
        return f"not judged: the runs spread by {spread:.0%}, above {MAX_SPREAD:.0%}"
    word = "reached" if least >= GOAL else "missed"
    return f"D1 {word}: {least:.2f} times faster at least, the goal is {GOAL:g}"


def _table(told: dict[str, Any]) -> str:
    lines = [
        f"{told['machine']}, one core; median of {told['runs']} alternating runs of "
        f"{told['recipes']} recipes.",
        "",
        "| preset | crop | ours, ms | spread | BasicSR-style, ms | spread | drawing, ms | faster |",
        "| --- | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for row in told["cases"]:
        lines.append(
            f"| {row['preset']} x{row['scale']} | {row['crop_px']}² | {row['ours_ms']} "
            f"| {row['ours_spread']:.1%} | {row['peer_ms']} | {row['peer_spread']:.1%} "
            f"| {row['drawing_ms']} | {row['times_faster']} x |"
        )
    return "\n".join([*lines, "", told["verdict"] + "."]) + "\n"


if __name__ == "__main__":
    main()
