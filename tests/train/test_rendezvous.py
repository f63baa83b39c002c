"""Two nodes as Kubeflow's Trainer starts them: torchrun, told all it needs by PET_ variables."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from benchmarks.forked import write_photographs
from tests.train.test_distributed import ROOT, environment, losses
from tudsr.profile import load_profile
from tudsr.train.record import read_metrics

TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
PROFILE = "extends: smoke\nruntime: {ranks_timeout_s: 120}\nstage1: {images: 16, log_every: 4}\n"


def manifest_arguments() -> list[str]:
    """What our TrainJob gives torchrun, up to its own profile and paths."""
    job = yaml.safe_load((ROOT / "k8s" / "training" / "stage1.yaml").read_text("utf-8"))
    trainer = job["spec"]["trainer"]
    assert trainer["command"] == ["torchrun"]
    return [argument for argument in trainer["args"] if "=" not in argument]


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_the_manifests_ranks_can_share_an_optimizer_step(stage):
    job = yaml.safe_load((ROOT / "k8s" / "training" / f"{stage}.yaml").read_text("utf-8"))
    trainer = job["spec"]["trainer"]
    gpus = int(trainer["resourcesPerNode"]["limits"]["nvidia.com/gpu"])
    settings = getattr(load_profile("sd21"), stage)
    pictures = settings.accumulate // settings.n**2
    assert pictures % (trainer["numNodes"] * gpus) == 0


def node(folder: Path, settings: dict[str, str], *options: str) -> subprocess.Popen:
    """Start torchrun on stage 1 in a folder of its own, as on a disk of its own."""
    folder.mkdir()
    (folder / "data").symlink_to(folder.parent / "data")
    arguments = [*manifest_arguments(), "--profile", "../mine.yaml", "--out", "out"]
    with (folder / "log").open("w") as log:
        return subprocess.Popen(
            [*TORCHRUN, *options, *arguments, "--work", "work"],
            cwd=folder,
            env=environment(**settings),
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def trainers_variables(rank: int, port: int) -> dict[str, str]:
    """What the Trainer's torch plugin sets on each node's container."""
    return {
        "PET_NNODES": "2",
        "PET_NPROC_PER_NODE": "1",
        "PET_NODE_RANK": str(rank),
        "PET_MASTER_ADDR": "127.0.0.1",
        "PET_MASTER_PORT": str(port),
    }


@pytest.mark.slow
def test_two_nodes_of_one_process_train_what_one_node_of_two_does(tmp_path):
    write_photographs(tmp_path / "data")
    (tmp_path / "mine.yaml").write_text(PROFILE)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    nodes = [node(tmp_path / f"node-{r}", trainers_variables(r, port)) for r in range(2)]
    try:
        codes = [child.wait(240) for child in nodes]
    finally:
        for child in nodes:
            child.kill()
    logs = [(tmp_path / f"node-{r}" / "log").read_text() for r in range(2)]
    assert codes == [0, 0], logs
    assert "adapter 1 written to out" in logs[0] and "adapter 1 written" not in logs[1]
    assert {p.name for p in (tmp_path / "node-1").iterdir()} == {"data", "log"}, "node 1 wrote"

    one = node(tmp_path / "one", {}, "--standalone", "--nproc-per-node=2")
    assert one.wait(240) == 0, (tmp_path / "one" / "log").read_text()
    first, whole = tmp_path / "node-0" / "out", tmp_path / "one" / "out"
    rows = [losses(read_metrics(out / "metrics.jsonl")) for out in (first, whole)]
    assert rows[0] == rows[1] and rows[0]
    for name in ("adapter.safetensors", "critic.safetensors"):
        assert (first / name).read_bytes() == (whole / name).read_bytes()
