"""The report: one self-contained HTML page with the verdict, pictures, tables and curves."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined, select_autoescape
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from tudsr.evaluate.judge import Examination
from tudsr.evaluate.score import LOWER_IS_BETTER, bicubic
from tudsr.images.atomic import write_text
from tudsr.release.tags import NO_CHAMPION, in_words
from tudsr.train.record import read_metrics

Pixels = NDArray[np.float32]
_SHOWN_PER_SCALE = 6


def write_report(
    out: Path,
    examination: Examination,
    metrics: Mapping[str, Path],
    facts: Mapping[str, str],
    title: str,
    judged_by_the_loss: bool,
) -> None:
    """Write the page to ``out``.

    Args:
        out: the HTML file.
        examination: what the gate saw.
        metrics: training's figures (``metrics.jsonl``) by stage, for the curves.
        facts: provenance to show, by name.
        title: the page's heading.
        judged_by_the_loss: whether the distances' trunk is the one that the training loss used.
    """
    environment = Environment(undefined=StrictUndefined, autoescape=select_autoescape(default=True))
    template = environment.from_string(
        files("tudsr.evaluate").joinpath("report.html").read_text(encoding="utf-8")
    )
    verdict = examination.verdict
    page = template.render(
        title=title,
        verdict=verdict,
        rival=in_words(verdict.champion or NO_CHAMPION),
        comparisons=_comparisons(examination),
        means=_mean_rows(examination),
        images=_image_rows(examination),
        curves={name: Markup(_curves(path)) for name, path in metrics.items()},
        facts=facts,
        judged_by_the_loss=judged_by_the_loss,
    )
    write_text(out, page)


def _comparisons(examination: Examination) -> dict[str, list[dict[str, str]]]:
    """Pictures for the sliders, by scale: bicubic, ours and the original."""
    shown: dict[str, list[dict[str, str]]] = {}
    rows = zip(examination.pairs, examination.pictures, strict=True)
    for pair, ours in sorted(rows, key=lambda row: -row[0].scale):
        group = shown.setdefault(f"x{pair.scale}", [])
        if len(group) < _SHOWN_PER_SCALE and pair.name.endswith(" 0"):
            group.append(
                {
                    "name": pair.name.removesuffix(" 0"),
                    "bicubic": _data_uri(bicubic(pair.lr, pair.scale)),
                    "ours": _data_uri(ours),
                    "truth": _data_uri(pair.hr),
                    "size": f"{pair.lr.shape[1]} px to {pair.hr.shape[1]} px",
                }
            )
    return shown


def _mean_rows(examination: Examination) -> list[dict[str, object]]:
    """One row a scale and metric: each method's mean, and the model's change against bicubic."""
    tables = examination.tables
    rows: list[dict[str, object]] = []
    for scale in tables["model"].scales:
        for metric in tables["model"].metrics:
            means = {name: table.mean(metric, scale) for name, table in tables.items()}
            lower = metric.startswith(LOWER_IS_BETTER)
            better = (
                means["model"] < means["bicubic"] if lower else means["model"] > means["bicubic"]
            )
            comparable = not np.isnan(means["bicubic"])
            rows.append(
                {
                    "scale": f"x{scale}",
                    "metric": metric,
                    "arrow": "lower" if lower else "higher",
                    "means": {k: "" if np.isnan(v) else f"{v:.4g}" for k, v in means.items()},
                    "change": f"{means['model'] / means['bicubic'] - 1:+.1%}" if comparable else "",
                    "better": better if comparable else None,
                }
            )
    return rows


def _image_rows(examination: Examination) -> list[dict[str, object]]:
    model, base = examination.tables["model"], examination.tables["bicubic"]
    name = examination.verdict.perceptual
    return [
        {
            "name": ours.name,
            "scale": f"x{ours.scale}",
            "cells": [
                f"{ours.values[name]:.3f} / {cubic.values[name]:.3f}",
                f"{ours.values['psnr_y']:.2f} / {cubic.values['psnr_y']:.2f}",
                f"{ours.values['niqe']:.1f} / {cubic.values['niqe']:.1f}",
            ],
            "better": ours.values[name] < cubic.values[name],
        }
        for ours, cubic in zip(model.scores, base.scores, strict=True)
    ]


def _curves(path: Path) -> str:
    """Every loss of a training over images seen, as inline SVG."""
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    rows = read_metrics(path)
    names = list(dict.fromkeys(k for row in rows for k in row if k.startswith("loss_")))
    figure, axes = plt.subplots(1, max(1, len(names)), figsize=(3.0 * max(1, len(names)), 2.2))
    for axis, name in zip(np.atleast_1d(axes), names, strict=False):
        points = [(row["images_seen"], row[name]) for row in rows if name in row]
        seen, values = zip(*points, strict=True)
        axis.plot(seen, values, color="#8ab4f8", linewidth=0.8)
        axis.plot(seen, _smoothed(values), color="#1a73e8", linewidth=1.6)
        axis.set_title(name.removeprefix("loss_"), fontsize=9)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    text = io.StringIO()
    no_block: dict[str, Any] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(text, format="svg", transparent=True, metadata=no_block)
    plt.close(figure)
    return text.getvalue()[text.getvalue().index("<svg") :]


def _smoothed(values: Sequence[float]) -> NDArray[np.float64]:
    width = max(1, len(values) // 10)
    padded = np.pad(np.asarray(values, np.float64), (width // 2, width - 1 - width // 2), "edge")
    return np.convolve(padded, np.ones(width) / width, "valid")


def _data_uri(pixels: Pixels) -> str:
    image = Image.fromarray((pixels.clip(0, 1) * 255 + 0.5).astype(np.uint8))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=88)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
