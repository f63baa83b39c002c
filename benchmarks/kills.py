"""Kill training at random moments and see what is left.

    python -m benchmarks.kills                 # 200 SIGKILLs and 20 SIGTERMs, profile smoke

Each run of training is killed again and again until it gets through, then held against one that was
left alone: adapter, sample pictures, figures and the order of the data, byte for byte. Writes
benchmarks/results/kills.{json,md}.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks.forked import ended, fork, traced, warm_up, write_photographs
from benchmarks.machine import machine_name
from tudsr.images.atomic import write_json, write_text
from tudsr.profile import PROJECT_ROOT, load_profile
from tudsr.provenance import file_sha256
from tudsr.train.record import read_metrics

RESULTS = PROJECT_ROOT / "benchmarks" / "results"
STAGES = ("stage1", "stage2")
_GROUP = {"stage1": 2, "stage2": 1}  # images an update, in the profile below
_TIMED = ("images_per_s", "peak_memory_gib", "data_wait", "data_start_s")


@dataclass
class Place:
    """Where one run of training happens, and what it leaves."""

    folder: Path
    stage: str
    adapter1: Path

    def start(self, profile: Path) -> int:
        """Start or go on."""
        self.folder.mkdir(parents=True, exist_ok=True)
        arguments: list[object] = ["train", self.stage, "--profile", profile, "--out", self.out]
        arguments += ["--work", self.folder / "work"]
        arguments += ["--adapter1", self.adapter1] if self.stage == "stage2" else []
        return fork(arguments, {}, self.folder / "trace")

    @property
    def out(self) -> Path:
        """Where the result goes."""
        return self.folder / "out"

    def checkpoints(self) -> list[tuple[int, bool]]:
        """Images and whether it is whole, of each checkpoint by its final name.

        Not of those under a run's temporary name: training is over and was removing them.
        """
        found = sorted(self.folder.glob("work/[!.]*/checkpoints/[0-9]*"))
        return [(int(path.name), _whole(path)) for path in found]

    def result(self) -> dict[str, Any]:
        """All that must be the same: files, figures without times, the order of the data."""
        rows = read_metrics(self.out / "metrics.jsonl")
        files = [p for p in sorted(self.out.rglob("*")) if p.is_file() and p.suffix != ".jsonl"]
        return {
            "files": {str(p.relative_to(self.out)): file_sha256(p) for p in files},
            "figures": [{k: v for k, v in row.items() if k not in _TIMED} for row in rows],
            "order": sorted(set(traced(self.folder / "trace"))),
            "left over": sorted(p.name for p in self.folder.glob("work/*")),
        }


@dataclass
class Tally:
    """What was seen."""

    interval_images: int
    kills: int = 0
    finished: int = 0
    unloadable: int = 0
    largest_loss_images: int = 0
    different: list[str] = field(default_factory=list)
    moments: Counter[str] = field(default_factory=Counter)
    terminated: Counter[str] = field(default_factory=Counter)


def main() -> None:
    """Kill, resume, compare and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--terms", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=RESULTS / "kills.json")
    options = parser.parse_args()
    warm_up()
    with tempfile.TemporaryDirectory(prefix="tudsr-kills-") as folder:
        began = time.monotonic()
        tally, alone_s = trial(Path(folder), options.kills, options.terms, options.seed)
    told = {
        "machine": f"{machine_name()}, {os.cpu_count()} cores",
        "undisturbed_s": {stage: round(s, 2) for stage, s in alone_s.items()},
        "seconds": round(time.monotonic() - began, 1),
        **{k: dict(v) if isinstance(v, Counter) else v for k, v in vars(tally).items()},
    }
    write_json(options.json, told)
    write_text(options.json.with_suffix(".md"), _table(told))
    print(options.json.with_suffix(".md").read_text("utf-8"))


def trial(folder: Path, kills: int, terms: int, seed: int) -> tuple[Tally, dict[str, float]]:
    """``kills`` SIGKILLs and ``terms`` SIGTERMs over both stages in turn."""
    rng = random.Random(seed)
    profile = _profile(folder)
    os.chdir(folder)
    alone, alone_s = _undisturbed(folder, profile)
    expected = {stage: place.result() for stage, place in alone.items()}
    tally = Tally(load_profile(profile).stage1.checkpoint_every)
    adapter1 = alone["stage1"].out / "adapter.safetensors"
    runs = 0
    while tally.kills < kills or sum(tally.terminated.values()) < terms:
        stage = STAGES[runs % 2]
        place = Place(folder / f"run{runs}", stage, adapter1)
        _disturb(place, profile, alone_s[stage], tally, (kills, terms), rng)
        _compare(place, expected[stage], tally)
        runs += 1
    return tally, alone_s


def _disturb(
    place: Place,
    profile: Path,
    alone_s: float,
    tally: Tally,
    wanted: tuple[int, int],
    rng: random.Random,
) -> None:
    """Kill one run until it gets through, or until there have been kills enough."""
    code = -1
    while code != 0:
        before = len(traced(place.folder / "trace"))
        child = place.start(profile)
        if tally.kills < wanted[0]:
            time.sleep(rng.uniform(0, alone_s))
            code = _end(child, signal.SIGKILL)
            if code == -signal.SIGKILL:
                _examine(place, before, tally)
        elif sum(tally.terminated.values()) < wanted[1]:
            _wait_for_an_update(place, child, before)
            time.sleep(rng.uniform(0, alone_s / 3))
            code = _end(child, signal.SIGTERM)
            tally.terminated[str(code)] += 1
        else:
            code = ended(child)
        if code not in (0, 75, -signal.SIGKILL, -signal.SIGTERM):
            tally.different.append(f"{place.folder.name}: exit code {code}")
            return


def _end(child: int, number: signal.Signals) -> int:
    """Signal the child's whole group, as clusters do, and wait."""
    try:
        os.killpg(child, number)
    except ProcessLookupError:  # it has just begun and is no group yet, or it is gone
        os.kill(child, number)
    return ended(child)


def _wait_for_an_update(place: Place, child: int, before: int) -> None:
    """Or for the child's end: it may have nothing left to do."""
    quietly = os.WEXITED | os.WNOHANG | os.WNOWAIT
    while len(traced(place.folder / "trace")) == before:
        if os.waitid(os.P_PID, child, quietly) is not None:
            return
        time.sleep(0.01)


def _examine(place: Place, before: int, tally: Tally) -> None:
    """Count the kill, what of the checkpoints cannot be loaded, and how many images are lost.

    ``before`` is how many updates earlier starts had begun.
    """
    tally.kills += 1
    checkpoints = place.checkpoints()
    tally.unloadable += sum(not whole for _, whole in checkpoints)
    updates = traced(place.folder / "trace")
    saved = max((seen for seen, whole in checkpoints if whole), default=0)
    if place.out.exists():
        tally.moments["with the result there"] += 1
    elif len(updates) == before:
        tally.moments["before its first update"] += 1
    else:
        # Of the update that had begun, all may have been computed.
        lost = updates[-1][0] + _GROUP[place.stage] - saved
        tally.largest_loss_images = max(tally.largest_loss_images, lost)
        tally.moments["in training"] += 1


def _compare(place: Place, expected: dict[str, Any], tally: Tally) -> None:
    tally.finished += 1
    result = place.result()
    for name, value in expected.items():
        if result[name] != value:
            tally.different.append(f"{place.folder.name} ({place.stage}): {name}")


def _undisturbed(folder: Path, profile: Path) -> tuple[dict[str, Place], dict[str, float]]:
    places: dict[str, Place] = {}
    seconds: dict[str, float] = {}
    for stage in STAGES:
        place = Place(folder / stage, stage, folder / "stage1" / "out" / "adapter.safetensors")
        began = time.monotonic()
        code = ended(place.start(profile))
        if code:
            raise SystemExit(f"{stage} does not even train undisturbed (exit code {code})")
        places[stage], seconds[stage] = place, time.monotonic() - began
    return places, seconds


def _profile(folder: Path) -> Path:
    """Profile smoke with checkpoints, figures and pictures close together and small updates."""
    write_photographs(folder / "data")
    often = {"checkpoint_every": 4, "log_every": 2, "sample_every": 6}
    settings = {
        "extends": "smoke",
        "stage1": {"images": 20, "batch": 1, "loss": {"l1_only_images": 12}, **often},
        "stage2": {
            "images": 12,
            "loss": {"l1_only_images": 8, "alternate_edges": True},
            **often,
        },
    }
    path = folder / "mine.yaml"
    write_text(path, yaml.safe_dump(settings))
    return path


def _whole(checkpoint: Path) -> bool:
    from safetensors.torch import load_file

    try:
        state = json.loads((checkpoint / "state.json").read_text("utf-8"))
        weights = checkpoint / "state.safetensors"
        return bool(load_file(weights)) and file_sha256(weights) == state["sha256"]
    except (OSError, ValueError, KeyError):
        return False


def _table(told: dict[str, Any]) -> str:
    moments = ", ".join(f"{v} {k}" for k, v in told["moments"].items())
    codes = ", ".join(f"{v} with {k}" for k, v in sorted(told["terminated"].items()))
    rows = {
        "SIGKILLs": f"{told['kills']} ({moments})",
        "checkpoints that cannot be loaded": told["unloadable"],
        "most images lost by one kill": f"{told['largest_loss_images']}; "
        f"a checkpoint comes every {told['interval_images']}",
        "ends after SIGTERM, by exit code": codes or "none",
        "runs held against one left alone": told["finished"],
        "differences": len(told["different"]),
        "machine, seconds": f"{told['machine']}, {told['seconds']}",
    }
    lines = [f"| {name} | {value} |" for name, value in rows.items()]
    return "\n".join(["| | |", "| --- | --- |", *lines]) + "\n"


if __name__ == "__main__":
    main()
