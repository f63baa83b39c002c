"""What `tudsr_base` hands to pre-training."""

from pathlib import Path

import pytest

from tudsr.profile import load_profile

PROFILE = """
extends: smoke
degradation: {preset: standard, clean_prob: 0.25}
stage1: {scales: [3], timestep: 210}
stage2: {scales: [6], n: 3, accumulate: 9}
upscale: {interpolation: {before_stage1: bilinear}}
"""


@pytest.fixture(autouse=True)
def source_root():
    """ZenML looks for it beside the main module, which a worker of pytest's has not."""
    from zenml.utils.source_utils import set_custom_source_root

    # Left so: tests/kubeflow sets the same, once for all of its tests.
    set_custom_source_root(str(Path(__file__).resolve().parents[2]))


def test_pre_training_gets_every_setting_that_decides_its_inputs(tmp_path):
    """A section that is left out comes as its defaults, and nothing says so."""
    from pipelines.base import tudsr_base

    mine = tmp_path / "mine.yaml"
    mine.write_text(PROFILE, "utf-8")
    pipeline = tudsr_base.copy()
    pipeline.prepare(profile=str(mine))
    given = pipeline.invocations["pretrain_base"].parameters["profile"]
    wanted = load_profile(str(mine))
    for section in ("runtime", "data", "degradation", "base", "pretrain", "stage1", "stage2"):
        assert getattr(given, section) == getattr(wanted, section), section
    assert given.upscale.interpolation == wanted.upscale.interpolation
