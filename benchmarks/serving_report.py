"""What benchmarks/serving.py measured, as goals and tables."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

MOST_SPREAD = 0.10


def goals(ours: dict[str, Any], stock: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Each goal of the project: its figure, the spread of its runs, and whether it is met.

    Args:
        ours, stock: as benchmarks/serving.py measures a service.
    """
    slow = _each(stock, "at_stock_70", "p99_s")
    failed = sum(told["at_300"]["failed_otherwise"] for told in ours["rounds"])
    return {
        "p99/p50 at 70 % over the ideal queue's, ≤ 1.1": _judged(_each(ours, "tail"), most=1.1),
        "p99 at 70 % of stock's over stock's, ≤ 0.6": _judged(
            [
                seconds / stocks
                for seconds, stocks in zip(_each(ours, "at_stock_70", "p99_s"), slow, strict=True)
            ],
            most=0.6,
        ),
        "goodput at 3 x saturation, ≥ 0.95": _judged(_each(ours, "at_300", "goodput"), least=0.95),
        "neither answered nor refused, 0": _judged([failed], most=0),
        "memory growth under overload, ≤ 0.05": _judged([ours["memory_growth"]], most=0.05),
        "all but the model at 2048² over Pillow's PNG, ≤ 0.15": _judged(
            ours["around_model"], most=0.15
        ),
    }


def table(told: dict[str, Any]) -> str:
    """All of it as Markdown."""
    count = len(told["ours"]["rounds"])
    lines = [f"{told['machine']}; {told['model']}, {(told['bundle'] or '')[:12]}; "
             f"{told['seconds']:g} s at 70 %; x{told['scale']}; "
             f"medians over {count} rounds, in brackets the least and the most.", ""]  # fmt: skip
    lines += ["| goal | figure | met |", "| --- | --: | --- |"]
    lines += [f"| {k} | {row['figure']:.3g} | {row['met']} |" for k, row in told["goals"].items()]
    lines += ["", "| | ours | stock BentoML |", "| --- | --: | --: |"]
    for label, path in _ROWS.items():
        values = [_cell(told[who], path) for who in ("ours", "stock")]
        lines.append(f"| {label} | {values[0]} | {values[1]} |")
    lines += ["", "| 2048² as | seconds | MB |", "| --- | --: | --: |"]
    lines += [f"| {k} | {v['s']:.3f} | {v['MB']:.2f} |" for k, v in told["encode_s"].items()]
    return "\n".join(lines) + "\n"


def _judged(
    runs: Sequence[float], most: float = float("inf"), least: float = float("-inf")
) -> dict[str, Any]:
    """The median, the quartiles' distance over it, and a verdict where that is small.

    Where it is not, it is told how many runs are within the limit; of a single run there is none.
    """
    figure = statistics.median(runs)
    low, high = np.percentile(runs, [25, 75])
    apart = float(high - low)
    spread = apart / figure if figure else float(apart > 0)
    met = "yes" if least <= figure <= most else "no"
    if not spread <= MOST_SPREAD:
        within = sum(least <= run <= most for run in runs)
        met = f"not judged, spread {100 * spread:.0f} %: {within} of {len(runs)} runs within"
    return {"figure": figure, "spread": spread, "met": met}


def _cell(service: dict[str, Any], path: tuple[str, ...]) -> str:
    """A figure of the whole, or of the rounds."""
    if path[0] in service:
        return f"{_at(service, path):.4g}"
    if path[0] not in service["rounds"][0]:
        return ""
    seen = _each(service, *path)
    if len(seen) == 1:
        return f"{seen[0]:.4g}"
    return f"{statistics.median(seen):.4g} ({min(seen):.4g} to {max(seen):.4g})"


_ROWS = {
    "cold start, s": ("cold_start_s",),
    "64² alone, s": ("alone_s", "64"),
    "128² alone, s": ("alone_s", "128"),
    "saturation, pictures a second": ("saturation_per_s",),
    "p50 at 70 % of stock's, s": ("at_stock_70", "p50_s"),
    "p99 at 70 % of stock's, s": ("at_stock_70", "p99_s"),
    "answered there": ("at_stock_70", "answered"),
    "p99/p50 at 70 % of ours over the ideal queue's": ("tail",),
    "p50 at 70 % of ours, s": ("at_70", "p50_s"),
    "p99 at 70 % of ours, s": ("at_70", "p99_s"),
    "answered there, of ours": ("at_70", "answered"),
    "goodput at 3 x ours": ("at_300", "goodput"),
    "p99 at 3 x ours of those answered, s": ("at_300", "p99_s"),
    "refused at 3 x ours": ("at_300", "refused"),
    "p99 of a refusal, s": ("at_300", "refused_p99_s"),
    "failed otherwise at 3 x ours": ("at_300", "failed_otherwise"),
    "the load's own processor seconds a request at 3 x ours": ("at_300", "client_s"),
}


def _each(service: dict[str, Any], *path: str) -> list[float]:
    """A figure of every round."""
    return [_at(told, path) for told in service["rounds"]]


def _at(told: Any, path: tuple[str, ...]) -> float:
    for key in path:
        told = told[key]
    return told
