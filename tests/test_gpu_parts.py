"""Each part of `make bench-gpu` runs, so that no minute of a GPU is lost to a slip.

Its own module with its own arguments; what comes after them makes it small and puts it on the CPU,
for of an option given twice the last counts.
"""

import importlib
import json
import sys

import pytest

from benchmarks.gpu import GPU_PARTS, RESULTS, Part

SMALL = {
    "benchmarks.looped_chunk": "--arch sd21-eighth --r-px 64 --n 1 --native 1 --runs 1 "
    "--kind looped native",
    "benchmarks.base_check": "--arch sd21-eighth --px 128",
    "benchmarks.seconds_per_image": "--arch sd21-eighth --sides 128 --runs 1",
    "benchmarks.sd21_stages": "--arch sd21-eighth --r-px 64 --updates 2",
    "benchmarks.training_step": "--runs 1 --steps 1",
    "benchmarks.data_wait": "--arch sd21-eighth --r-px 64 --stage 2 --workers 1 --updates 1 "
    "--pictures 4",
}
PROFILE = "extends: sd21\nruntime: {device: cpu}\nbase: {arch: sd21-eighth, r_px: 64}\n"


def distinct() -> list[Part]:
    """Of parts that differ in precision or size alone the first."""
    alike = {
        (p.module, stage): p for p in reversed(GPU_PARTS) for stage in [p.name.partition("-")[0]]
    }
    return sorted(alike.values(), key=lambda part: part.name)


@pytest.mark.parametrize("part", distinct(), ids=lambda part: part.name)
def test_a_part_runs_and_writes_figures(part, tmp_path, monkeypatch):
    module = importlib.import_module(part.module)
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    arguments = [*part.arguments, *SMALL[part.module].split()]
    if "--device" in arguments:
        arguments += ["--device", "cpu"]
    else:
        (tmp_path / "mine.yaml").write_text(PROFILE)
        arguments += ["--profile", str(tmp_path / "mine.yaml")]
    monkeypatch.setattr(sys, "argv", [part.module, *arguments])
    try:
        module.main()
    except SystemExit as end:
        assert not end.code
    (told,) = (json.loads(f.read_text("utf-8")) for f in tmp_path.glob("*.json"))
    assert told["machine"] and (told.get("rows") or told["loops"])
    (shown,) = tmp_path.glob("*.md")
    assert "NO" not in shown.read_text("utf-8").split()


def test_all_parts_are_tried_and_none_has_anothers_name():
    assert {part.module for part in GPU_PARTS} == set(SMALL)
    assert len({part.name for part in GPU_PARTS}) == len(GPU_PARTS)
    assert all(importlib.import_module(p.module).RESULTS == RESULTS for p in GPU_PARTS)
