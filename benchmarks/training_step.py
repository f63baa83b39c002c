"""Goal T4: stage 1's training step beside a plain loop of the same losses.

    python -m benchmarks.training_step [--profile tiny] [--runs 7] [--steps 8] [--random]

Both loops run in turns in this process on the same pairs; the figure is the ratio of their times.
Refuses to judge when the spread of the ratios exceeds 10 %. Pictures are made beforehand: what
training waits for them is benchmarks/data_wait.py's. Writes
benchmarks/results/training-step[-random]-PROFILE.{json,md}.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.drawn import drawn_pair
from benchmarks.machine import machine_name
from benchmarks.plain_loop import PlainStep
from tudsr.data.photos import list_photographs
from tudsr.images.atomic import write_json, write_text
from tudsr.machine import keep_freed_memory
from tudsr.model.adapters import activate, add_adapter
from tudsr.model.base import Base, load_base
from tudsr.profile import PROJECT_ROOT, Profile, load_profile
from tudsr.train.adversarial import AdversarialStep
from tudsr.train.device import pick_device
from tudsr.train.pairs import TrainingPairs

RESULTS = PROJECT_ROOT / "benchmarks" / "results"
Update = Callable[[int], None]


def main() -> None:
    """Time the loops in turns and write the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", default="tiny")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--random", action="store_true", help="random weights, drawn pictures")
    given = parser.parse_args()
    keep_freed_memory()
    profile = load_profile(given.profile)
    count = given.steps * profile.stage1.batch
    pairs = _drawn_pairs(profile, count) if given.random else _pairs(profile, count)
    loops = _loops(_on_random_weights(profile) if given.random else profile, pairs)
    times = _in_turns(loops, given.runs, given.steps)
    machine = machine_name(pick_device(profile.runtime).type)
    told: dict[str, Any] = {"machine": machine, "profile": given.profile}
    told |= {"threads": torch.get_num_threads(), "loops": _summary(times)}
    name = f"training-step{'-random' if given.random else ''}-{Path(given.profile).stem}"
    write_json(RESULTS / f"{name}.json", told)
    write_text(RESULTS / f"{name}.md", _table(told["loops"]))
    print(_table(told["loops"]))


def _loops(profile: Profile, pairs: dict[str, torch.Tensor]) -> dict[str, Update]:
    """One update of each loop on the k-th batch of the pairs."""
    device = pick_device(profile.runtime)
    stage, batch = profile.stage1, profile.stage1.batch
    lr, hr = (pairs[k].to(device).split(batch) for k in ("lr", "hr"))
    both = stage.model_copy(
        update={"loss": stage.loss.model_copy(update={"alternate_edges": False})}
    )
    plain = PlainStep(_base(profile), "stage1", both, profile.runtime)
    loops: dict[str, Update] = {"plain": lambda k: plain.update(lr[k], hr[k])}
    for name, settings in (("ours, both terms", both), ("ours, as in the profile", stage)):
        step = AdversarialStep(_base(profile), "stage1", settings, profile.runtime, profile.seed)

        def update(k: int, step: AdversarialStep = step) -> None:
            step.accumulate(lr[k], hr[k], 10**6 + k, 1.0)
            step.apply(1.0)

        loops[name] = update
    return loops


def _base(profile: Profile) -> Base:
    base = load_base(profile.base).to(pick_device(profile.runtime))
    add_adapter(base.unet, "stage1", profile.stage1.lora, profile.seed)
    activate(base.unet, "stage1")
    return base


def _pairs(profile: Profile, count: int) -> dict[str, torch.Tensor]:
    photos = [p.path for p in list_photographs(Path(profile.data.root)) if p.split == "train"]
    scales = profile.stage1.scales
    pairs = TrainingPairs(photos, profile, profile.base.r_px, scales, profile.seed)
    items = [pairs[i] for i in range(count)]
    return {name: torch.stack([item[name] for item in items]) for name in ("lr", "hr")}


def _on_random_weights(profile: Profile) -> Profile:
    """Where nothing can be fetched: times do not depend on what the weights are."""
    stage, trunk = profile.stage1, {"trunk": "random", "trunk_path": None}
    critic = stage.critic.model_copy(update={**trunk, "levels": (2, 3, 4), "diff_augment": False})
    loss = stage.loss.model_copy(update=trunk)
    changes = {
        "base": profile.base.model_copy(update={"random_seed": 0}),
        "stage1": stage.model_copy(update={"critic": critic, "loss": loss}),
    }
    return profile.model_copy(update=changes)


def _drawn_pairs(profile: Profile, count: int) -> dict[str, torch.Tensor]:
    r_px = profile.base.r_px
    items = [drawn_pair(r_px, r_px, seed) for seed in range(count)]
    return {name: torch.stack([item[name] for item in items]) for name in ("lr", "hr")}


def _in_turns(loops: dict[str, Update], runs: int, steps: int) -> dict[str, list[float]]:
    """Seconds a step, per run; the first round warms up and is not counted."""
    times: dict[str, list[float]] = {name: [] for name in loops}
    for run in range(runs + 1):
        for name, update in loops.items():
            _wait()
            started = time.perf_counter()
            for k in range(steps):
                update(k)
            _wait()
            if run:
                times[name].append((time.perf_counter() - started) / steps)
    return times


def _summary(times: dict[str, list[float]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, seconds in times.items():
        ratios = [plain / mine for plain, mine in zip(times["plain"], seconds, strict=True)]
        middle = statistics.median(ratios)
        spread = (max(ratios) - min(ratios)) / middle
        found[name] = {
            "seconds_a_step": statistics.median(seconds),
            "times_as_fast": middle,
            "spread": spread,
            "judged": spread <= 0.10,
        }
    return found


def _table(loops: dict[str, Any]) -> str:
    lines = [
        "| loop | seconds a step | times as fast as plain | spread |",
        "| --- | --: | --: | --: |",
    ]
    for name, row in loops.items():
        ratio = f"{row['times_as_fast']:.2f}" if row["judged"] else "not judged: spread above 10 %"
        lines.append(f"| {name} | {row['seconds_a_step']:.3f} | {ratio} | {row['spread']:.0%} |")
    return "\n".join(lines) + "\n"


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
