"""The README's figures, from benchmarks/results: what `make run` reached, and the first screen.

    python -m benchmarks.quality && python -m benchmarks.make_run && python -m benchmarks.readme

Writes docs/first-screen.webp (input, bicubic, best peer, ours, original at x8) and the parts of
README.md between its `make-run` and its `quality` marks. Nothing is retouched; the crops are where
the originals have the most contrast, as on the contact sheets.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.contact_sheets import busiest
from benchmarks.ours import our_methods
from benchmarks.peers import peers
from benchmarks.quality_cases import Case, load_cases
from benchmarks.quality_scores import Method, Scorer
from tudsr.errors import ModelError
from tudsr.images.atomic import write_text, writing
from tudsr.places import outputs_dir
from tudsr.profile import PROJECT_ROOT

README = PROJECT_ROOT / "README.md"
RESULTS = PROJECT_ROOT / "benchmarks" / "results"
PICTURE = PROJECT_ROOT / "docs" / "first-screen.webp"
ROWS = (
    ("lom_bridge_by_sander_klootwijk", "clean"),
    ("lom_bridge_by_sander_klootwijk", "mild"),
    ("bud_singaporean-cityscape", "clean"),
    ("bud_tea-gardens", "clean"),
)
CROP_PX, GAP_PX = 240, 6
# The peer to show is the best by this: no training here uses it, ours or theirs.
JUDGE = "feat_effnet"
# Name, digits, and whether less is better.
COLUMNS = {
    "psnr_y": ("PSNR-Y, dB", 2, False),
    "lpips_hed": ("lpips_hed *", 4, True),
    "dists_hed": ("dists_hed *", 4, True),
    "feat_effnet": ("feat_effnet", 3, True),
    "niqe": ("NIQE", 2, True),
}
KINDS = ("clean", "mild")
LIMITS = """\
*In each cell: clean input, then `mild` damage; the best in bold. More is better for PSNR, less for
all others.* `*`: on the same trunk as the training loss. Trained on 32 photographs alone, clean and
mildly damaged, the model fails on faces, on text and on heavy JPEG.
[quality.md](benchmarks/results/quality.md) has intervals, wins a photograph and all metrics.
"""


def main() -> None:
    """Write the picture and the tables."""
    told = json.loads((RESULTS / "quality.json").read_text("utf-8"))
    best = best_peer(told, 8)
    write_picture(best)
    kinds = ", ".join(kind for _, kind in ROWS)
    caption = f"Input, bicubic, {best}, TUDSR, original; x8; inputs {kinds}."
    picture = f"![{caption}](docs/{PICTURE.name})\n\n*{caption}*"
    text = README.read_text("utf-8")
    text = between(text, "make-run", (RESULTS / "make-run.md").read_text("utf-8"))
    write_text(README, between(text, "quality", f"{picture}\n\n{table(told)}\n\n{LIMITS}"))
    print(README, PICTURE)


def between(text: str, name: str, block: str) -> str:
    """``text`` with ``block`` between the two marks of that name.

    Raises:
        ModelError: a mark is missing.
    """
    begin, end = f"<!-- {name}: python -m benchmarks.readme -->", f"<!-- /{name} -->"
    if begin not in text or end not in text:
        raise ModelError(f"README.md lacks {begin!r} or {end!r}: put both where it belongs")
    return f"{text.split(begin)[0]}{begin}\n{block.rstrip()}\n{end}{text.split(end)[1]}"


def best_peer(told: dict[str, Any], scale: int) -> str:
    """The peer with the least `feat_effnet` over both kinds of input."""
    sums: dict[str, float] = {}
    for entry in _entries(told, scale):
        sums[entry["method"]] = sums.get(entry["method"], 0) + entry["means"][JUDGE]
    others = {n: v for n, v in sums.items() if not _is_ours(n) and n not in ("bicubic", "lanczos")}
    return min(others, key=others.__getitem__)


def table(told: dict[str, Any]) -> str:
    """Peers and ours by scale, both kinds of input in one cell."""
    head = ["", "", *(heading for heading, _, _ in COLUMNS.values())]
    lines = [head, ["---", "---", *["--:"] * len(COLUMNS)]]
    for scale in (8, 4):
        means = _means(told, scale)
        lines += [[f"x{scale}", name, *_cells(name, means)] for name in means]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _means(told: dict[str, Any], scale: int) -> dict[str, dict[str, dict[str, float]]]:
    """By method and kind; of ours the one that is used alone, and not Lanczos beside bicubic."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for entry in _entries(told, scale):
        name, main = entry["method"], told["main"][str(scale)]
        if name == main or not (_is_ours(name) or name == "lanczos"):
            shown = "**TUDSR**" if name == main else name
            found.setdefault(shown, {})[entry["kind"]] = entry["means"]
    return found


def _cells(name: str, means: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    return [
        ", ".join(_cell(metric, name, kind, means) for kind in KINDS if kind in means[name])
        for metric in COLUMNS
    ]


def _cell(metric: str, name: str, kind: str, means: dict[str, dict[str, dict[str, float]]]) -> str:
    _, digits, less = COLUMNS[metric]
    all_of_kind = [kinds[kind][metric] for kinds in means.values() if kind in kinds]
    value = means[name][kind][metric]
    told = f"{value:.{digits}f}"
    return f"**{told}**" if value == (min if less else max)(all_of_kind) else told


def _entries(told: dict[str, Any], scale: int) -> list[dict[str, Any]]:
    return [e for e in told["summary"] if e["scale"] == scale and e["part"] == "whole"]


def _is_ours(name: str) -> bool:
    return name.startswith("TUDSR") or name == "base alone"


def write_picture(peer: str) -> None:
    """One row an input; results come from the benchmark's cache where it has them."""
    cases = load_cases(PROJECT_ROOT / "data" / "test", {8: 2048}, None)
    chosen = [c for row in ROWS for c in cases if (c.photo, c.kind) == row]
    scorer = Scorer(outputs_dir() / "cache" / "quality")
    with tempfile.TemporaryDirectory() as scratch:
        ours = our_methods(None, Path(scratch), ablation=False).by_scale[8][0]
        shown = [p for p in peers(8) if p.name in ("bicubic", peer)]
        methods = [*(Method(p.name, p.key, p.enlarge) for p in shown), ours]
        rows = [_row(case, scorer, methods) for case in chosen]
    sheet = np.concatenate(rows)[:-GAP_PX, :-GAP_PX]
    with writing(PICTURE) as temporary:
        levels = np.rint(sheet * 255).astype(np.uint8)
        Image.fromarray(levels).save(temporary, "WEBP", quality=90, method=6)


def _row(case: Case, scorer: Scorer, methods: list[Method]) -> np.ndarray[Any, Any]:
    nearest = case.lr.repeat(case.scale, 0).repeat(case.scale, 1)
    pictures = [nearest, *(scorer.picture(case, m) for m in methods), case.hr]
    window = busiest(case.hr, CROP_PX)
    crops = [p[window] for p in pictures]
    padded = [np.pad(c, ((0, GAP_PX), (0, GAP_PX), (0, 0)), constant_values=1) for c in crops]
    return np.concatenate(padded, axis=1)


if __name__ == "__main__":
    main()
