"""What the pipelines hand to their steps."""

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
WITH_WEIGHTS = """
extends: smoke
data: {{root: {here}/photos}}
pretrain: {{start: {here}/start}}
stage1: {{loss: {{trunk: vgg16, trunk_path: {here}/losses.safetensors}}}}
stage2: {{critic: {{trunk: dinov2, trunk_path: {here}/critic}}}}
gate: {{metric_trunk: vgg16, metric_trunk_path: {here}/metric.safetensors}}
"""
USERS = {
    "losses.safetensors": {"train_stage1", "pretrain_base"},
    "critic/model.safetensors": {"train_stage2"},
    "metric.safetensors": {"gate_metrics"},
    "start/base.json": {"pretrain_base"},
}


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


def arguments(profile):
    """Each step's, as they enter its cache key."""
    from pipelines.base import tudsr_base
    from pipelines.full import tudsr_full

    found = {}
    for pipeline in (tudsr_full.copy(), tudsr_base.copy()):
        pipeline.prepare(profile=str(profile))
        found |= {name: str(step.parameters) for name, step in pipeline.invocations.items()}
    return found


def test_other_weights_under_a_name_are_noticed_by_the_steps_that_use_them(tmp_path):
    (tmp_path / "photos").mkdir()
    for name in USERS:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("as published", "utf-8")
    mine = tmp_path / "mine.yaml"
    mine.write_text(WITH_WEIGHTS.format(here=tmp_path), "utf-8")
    before = arguments(mine)
    for name, users in USERS.items():
        (tmp_path / name).write_text("changed", "utf-8")
        after = arguments(mine)
        assert {step for step in after if after[step] != before[step]} == users, name
        before = after
