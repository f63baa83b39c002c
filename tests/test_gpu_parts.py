"""Each part of `make bench-gpu` runs, so that no minute of a GPU is lost to a slip.

Its own module with its own arguments; what comes after them makes it small and puts it on the CPU,
for of an option given twice the last counts.
"""

import importlib
import json
import sys

import pytest

from benchmarks import gpu
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


def test_without_a_gpu_it_says_so_and_runs_the_parts_for_a_cpu(tmp_path, monkeypatch, capsys):
    """What runs a part is replaced, for parts are tried above; one that fails stops no other."""
    ran: list[str] = []

    def run(part: Part) -> dict[str, object]:
        ran.append(part.name)
        return {"part": part.name, "exit_code": int(part.name == "memory")}

    monkeypatch.setattr(gpu, "_run", run)
    monkeypatch.setattr(gpu, "RESULTS", tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu"])
    with pytest.raises(SystemExit) as end:
        gpu.main()
    assert end.value.code == 1 and ran == ["memory", "stages"]
    assert "no GPU that torch can use on this machine: only the CPU part" in capsys.readouterr().out
    told = json.loads((tmp_path / "gpu.json").read_text("utf-8"))
    assert not told["gpu"] and [part["part"] for part in told["parts"]] == ran
    monkeypatch.setattr(sys, "argv", ["gpu", "--part", "stage1-bf16"])
    with pytest.raises(SystemExit, match="no part stage1-bf16 here; there are memory, stages"):
        gpu.main()


def test_all_parts_are_tried_and_none_has_anothers_name():
    assert {part.module for part in GPU_PARTS} == set(SMALL)
    assert len({part.name for part in GPU_PARTS}) == len(GPU_PARTS)
    assert all(importlib.import_module(p.module).RESULTS == RESULTS for p in GPU_PARTS)
