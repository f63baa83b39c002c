"""``tudsr_full``: from photographs to a registered, packaged model and a report with pictures."""

from __future__ import annotations

from zenml import Model, pipeline

from pipelines.placement import begun, outside, placed
from pipelines.screen import tidy
from steps.gate_metrics import gate_metrics
from steps.package_bento import package_bento
from steps.register_model import register_model
from steps.synthesize_degradations import synthesize_degradations
from steps.train_stage1 import train_stage1
from steps.train_stage2 import train_stage2
from steps.validate_data import validate_data
from tudsr.profile import load_profile

tidy()


@pipeline(name="tudsr_full", model=Model(name="tudsr"), enable_cache=True)
def tudsr_full(profile: str = "tiny") -> None:
    """Train, judge, package and register with the settings of ``profile``.

    What lies outside ZenML's sight (photographs, base, trunks, champion) enters the steps as
    version strings, so that a change in any of them is noticed and nothing else runs again.
    """
    begun(profile)
    settings = load_profile(profile)
    there, at = outside(settings), placed(settings)

    validation, _, _ = at(validate_data)(settings.data, there.data)
    pairs, _ = at(synthesize_degradations)(settings.only("data", "pairs"), validation, there.data)
    common = ("runtime", "data", "degradation", "base", "registry", "upscale.interpolation")
    versions = (there.data, there.base)
    stage1 = at(train_stage1)(
        settings.only(*common, "stage1"), validation, *versions, there.trunks["stage1"]
    )
    stage2 = at(train_stage2)(
        settings.only(*common, "stage2"), validation, stage1, *versions, there.trunks["stage2"]
    )
    verdict, evaluation, _ = at(gate_metrics)(
        settings.only("runtime", "data", "base", "upscale", "gate", "registry"),
        pairs,
        stage1,
        stage2,
        *versions,
        there.trunks["gate"],
        there.against,
        settings.judged_by_the_loss,
    )
    bundle, bento = at(package_bento)(
        settings, validation, verdict, evaluation, stage1, stage2, *versions
    )
    at(register_model)(settings.registry, bundle, bento, verdict)
