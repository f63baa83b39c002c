"""The model card that goes into a bundle: what the model is for, made from, worth and bad at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tudsr.profile import Profile
from tudsr.provenance import Provenance

_TEMPLATE = Path(__file__).with_name("model_card.md")
# Metric in the gate's means, its heading and its digits. The perceptual distance comes first.
_COLUMNS = (
    ("psnr_y", "PSNR-Y, dB ↑", 2),
    ("ssim_y", "SSIM-Y ↑", 4),
    ("dists", "DISTS ↓", 4),
    ("niqe", "NIQE ↓", 2),
    ("mesh", "mesh ↓", 3),
    ("seam_ratio", "seam ratio ↓", 3),
)


def model_card(
    profile: Profile,
    gate: Mapping[str, Any],
    provenance: Provenance,
    photographs: Iterable[Mapping[str, str]],
) -> str:
    """The card as Markdown; no times in it, so the same model gets the same card.

    Args:
        profile: the run's settings.
        gate: the verdict as JSON; its means and gains fill the table.
        provenance: which code, data, base, settings and seed made the model.
        photographs: rows of ``manifest.csv`` with ``file``, ``author`` and ``licence``; those
            below ``train/`` are what the model was trained on.
    """
    from jinja2 import Environment, StrictUndefined

    # Markdown, not HTML: names are escaped by the `cell` filter instead.
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["cell"] = _cell
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    training = [row for row in photographs if row["file"].startswith("train/")]
    return template.render(
        name=profile.registry.model_name,
        profile=profile,
        provenance=provenance,
        sources=_sources(training),
        photograph_count=len(training),
        perceptual=str(gate.get("perceptual", "")),
        gains=gate.get("gains", {}),
        headings=[heading for _, heading, _ in _columns(gate)],
        rows=_rows(gate),
    )


def _sources(training: Iterable[Mapping[str, str]]) -> list[tuple[str, str, int]]:
    """(author, licence, photographs), by licence and author."""
    counts: dict[tuple[str, str], int] = {}
    for row in training:
        key = (row["licence"], row["author"])
        counts[key] = counts.get(key, 0) + 1
    return [(author, licence, count) for (licence, author), count in sorted(counts.items())]


def _columns(gate: Mapping[str, Any]) -> list[tuple[str, str, int]]:
    perceptual = str(gate.get("perceptual", ""))
    present = {
        metric
        for scales in gate.get("means", {}).values()
        for metrics in scales.values()
        for metric in metrics
    }
    first = (perceptual, f"{perceptual} ↓", 4)
    others = (column for column in _COLUMNS if column[0] != perceptual)
    return [column for column in (first, *others) if column[0] in present]


def _rows(gate: Mapping[str, Any]) -> list[tuple[str, str, list[str]]]:
    """(scale, method, one formatted value a column), scale by scale."""
    means: dict[str, dict[str, dict[str, float]]] = gate.get("means", {})
    scales = sorted({scale for table in means.values() for scale in table})
    return [
        (
            scale,
            method,
            [_value(means[method][scale], metric, d) for metric, _, d in _columns(gate)],
        )
        for scale in scales
        for method in means
        if scale in means[method]
    ]


def _value(metrics: Mapping[str, float], metric: str, digits: int) -> str:
    return f"{metrics[metric]:.{digits}f}" if metric in metrics else "–"  # noqa: RUF001


def _cell(text: object) -> str:
    """A name inside a Markdown table: neither a new cell, nor a new line, nor HTML."""
    flat = " ".join(str(text).split())
    return flat.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
