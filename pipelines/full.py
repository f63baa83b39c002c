"""``tudsr_full``: from photographs to a registered, packaged model and a report with pictures."""

from __future__ import annotations

from zenml import Model, pipeline

from steps.gate_metrics import gate_metrics
from steps.package_bento import package_bento
from steps.register_model import register_model
from steps.synthesize_degradations import synthesize_degradations
from steps.train_stage1 import train_stage1
from steps.train_stage2 import train_stage2
from steps.validate_data import validate_data
from tudsr.data.sets import set_version
from tudsr.model.version import base_version
from tudsr.profile import load_profile
from tudsr.release.locate import rival


@pipeline(name="tudsr_full", model=Model(name="tudsr"), enable_cache=True)
def tudsr_full(profile: str = "tiny") -> None:
    """Train, judge, package and register with the settings of ``profile``.

    What lies outside ZenML's sight (the photographs, the base, the champion) enters the steps as
    version strings, so that a change in any of them is noticed and nothing else runs again.
    """
    settings = load_profile(profile)
    data = set_version(settings.data)
    base = base_version(settings.base)
    against = rival(settings.registry.model_name, settings.gate.versus_shipped)

    validation, _, _ = validate_data(settings.data, data)
    pairs, _ = synthesize_degradations(settings.only("data", "pairs"), validation)
    common = ("runtime", "data", "degradation", "base", "registry")
    stage1 = train_stage1(settings.only(*common, "stage1"), validation, base)
    stage2 = train_stage2(settings.only(*common, "stage2"), validation, stage1, base)
    verdict, evaluation, _ = gate_metrics(
        settings.only("runtime", "data", "base", "upscale", "gate", "registry"),
        pairs,
        stage1,
        stage2,
        data,
        base,
        against,
    )
    bundle, bento = package_bento(settings, verdict, evaluation, stage1, stage2, data, base)
    register_model(settings.registry, bundle, bento, verdict)
