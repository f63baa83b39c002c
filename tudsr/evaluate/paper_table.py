"""The published rows of the paper's benchmarks, and ours beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

OURS = "this model"
MISSING = "-"
_DIGITS = {"PSNR": 2, "FID": 2}


@dataclass(frozen=True)
class Published:
    """A table of the paper.

    Attributes:
        source: what to cite.
        metrics: its columns.
        rows: by method, each metric's value.
        lower_is_better: metrics of which less is better.
    """

    source: str
    metrics: tuple[str, ...]
    rows: Mapping[str, Mapping[str, float]]
    lower_is_better: frozenset[str]


@lru_cache(maxsize=1)
def _content() -> dict[str, Any]:
    return json.loads(files("tudsr.evaluate").joinpath("published.json").read_text("utf-8"))


def published(name: str, scale: int) -> Published:
    """The paper's table of a benchmark at a scale; without rows where it has none."""
    content = _content()
    tables = [t for t in content["tables"] if (t["benchmark"], t["scale"]) == (name, scale)]
    rows = tables[0]["rows"] if tables else {}
    listed = tables or [t for t in content["tables"] if t["scale"] == scale and not _truth(t)]
    first = next(iter(listed[0]["rows"].values()))
    lower = frozenset(content["lower_is_better"])
    return Published(content["source"], tuple(first), rows, lower)


def markdown_table(ours: Mapping[str, float], paper: Published, own_metrics: Sequence[str]) -> str:
    """The published rows and ours, as Markdown; ``-`` where there is no figure.

    ``own_metrics`` are columns that the paper does not have, such as PSNR; they come first.
    """
    columns = [*own_metrics, *paper.metrics]
    heads = [f"{name} {'↓' if name in paper.lower_is_better else '↑'}" for name in columns]
    lines = [f"| method | {' | '.join(heads)} |", "|---|" + "--:|" * len(columns)]
    for method, row in [*paper.rows.items(), (OURS, ours)]:
        cells = [_cell(name, row) for name in columns]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(name: str, row: Mapping[str, float]) -> str:
    return f"{row[name]:.{_DIGITS.get(name, 4)}f}" if name in row else MISSING


def _truth(table: Mapping[str, Any]) -> bool:
    return "LPIPS" in next(iter(table["rows"].values()))
