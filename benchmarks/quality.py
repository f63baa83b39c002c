"""How good the enlarged pictures are, beside the upscalers that a package carries.

    python -m benchmarks.quality [--model BUNDLE|base] [--quick]

Goal section "Quality": x8 to 2048² and x4 to 1024² on the six test photographs, clean and mildly
damaged, with the cascade's ablation. Writes benchmarks/results/quality.{json,md} and a contact
sheet a photograph; ``--quick`` looks at 512² of each alone and writes to outputs/.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import machine_name
from benchmarks.ours import BASE, our_methods
from benchmarks.peers import Peer, peers, twice
from benchmarks.quality_cases import CENTRE_PX, Case, centre_case, load_cases
from benchmarks.quality_report import page, summary
from benchmarks.quality_scores import Method, Scorer, Scores
from tudsr.images.atomic import write_json, write_text
from tudsr.places import outputs_dir
from tudsr.profile import PROJECT_ROOT

RESULTS = PROJECT_ROOT / "benchmarks" / "results"
Row = dict[str, Any]


def main() -> None:
    """Score everything, write figures and contact sheets."""
    options = _options()
    started = time.monotonic()
    sides = {4: 512, 8: 512} if options.quick else {4: 1024, 8: 2048}
    cases = load_cases(PROJECT_ROOT / "data" / "test", sides, options.photos)
    scorer = Scorer(outputs_dir() / "cache" / "quality")
    with tempfile.TemporaryDirectory() as scratch:
        ablation = not (options.quick or options.no_ablation)
        ours = our_methods(options.model, Path(scratch), ablation)
        rows = _rows(cases, scorer, ours.by_scale, options)
    facts = {
        "model": ours.signature,
        "main": {str(scale): name for scale, name in ours.main.items()},
        "machine": machine_name(),
        "original_px": sides,
        "seconds": round(time.monotonic() - started),
    }
    told = {**facts, "summary": summary(rows, ours.main), "rows": rows}
    out = outputs_dir() / "quality" if options.quick else RESULTS
    write_json(out / "quality.json", told)
    write_text(out / "quality.md", page(told, ours.main))
    print((out / "quality.md").read_text("utf-8"))
    if options.sheets:
        from benchmarks.contact_sheets import write_sheets

        write_sheets(cases, scorer, _methods(ours.by_scale, 8), RESULTS / "sheets")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--model", help=f"a bundle, version or alias, or {BASE!r} [champion]")
    parser.add_argument("--quick", action="store_true", help="512² of each photograph")
    parser.add_argument("--photos", type=int, help="so many photographs alone")
    parser.add_argument(
        "--peers", help="of the peers, those alone whose name has one of these, a,b"
    )
    parser.add_argument(
        "--no-twice", action="store_true", help="without the x4 networks run twice, the slowest"
    )
    parser.add_argument("--no-ablation", action="store_true", help="without other cascades of ours")
    parser.add_argument("--sheets", action="store_true", help="write the contact sheets too")
    return parser.parse_args()


def _rows(
    cases: list[Case], scorer: Scorer, ours: dict[int, list[Method]], options: argparse.Namespace
) -> list[Row]:
    rows: list[Row] = []
    for number, case in enumerate(cases):
        chosen = [p for p in peers(case.scale) if _is_wanted(p.name, options.peers)]
        methods = [*map(_method, chosen), *ours[case.scale]]
        told = f"{number + 1}/{len(cases)} {case.photo} x{case.scale} {case.kind}"
        print(told, file=sys.stderr, flush=True)
        rows += _told(case, "whole", scorer.score(case, methods))
        for row in rows[-len(methods) :]:
            shown = {m: round(v, 4) for m, v in row["scores"].items()}
            print(f"  {row['method']}: {shown}", file=sys.stderr, flush=True)
        if case.scale == 8 and not (options.quick or options.no_twice):
            part, inside = centre_case(case)
            both = [*methods, *map(_method, twice())]
            rows += _told(case, f"centre {CENTRE_PX}", scorer.score(part, both, inside))
    return rows


def _told(case: Case, part: str, scores: dict[str, Scores]) -> list[Row]:
    where = {"photo": case.photo, "scale": case.scale, "kind": case.kind, "part": part}
    return [{**where, "method": name, "scores": values} for name, values in scores.items()]


def _methods(ours: dict[int, list[Method]], scale: int) -> list[Method]:
    return [*map(_method, peers(scale)), *ours[scale]]


def _is_wanted(name: str, given: str | None) -> bool:
    return given is None or any(part in name for part in given.split(","))


def _method(peer: Peer) -> Method:
    return Method(peer.name, peer.key, peer.enlarge)


if __name__ == "__main__":
    main()
