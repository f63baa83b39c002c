"""The metric gate: floors against bicubic decide, the champion is compared with and reported."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from tudsr.errors import GateClosedError
from tudsr.evaluate.score import ScoreTable
from tudsr.evaluate.statistics import Paired, paired
from tudsr.profile import GateSettings


class Rule(BaseModel):
    """One floor and how the model stands to it."""

    model_config = ConfigDict(frozen=True)

    name: str
    scale: int
    value: float
    limit: float
    passed: bool
    sentence: str


class Verdict(BaseModel):
    """Whether the model may be packaged, why, and how it stands to the champion.

    Attributes:
        rules: every floor, at every scale.
        champion: version that was compared with, if any.
        versus_champion: paired difference (model - champion) of the perceptual distance, by scale.
        beats_champion: whether the mean distance is lower at every scale; None without a champion.
        means: mean of each metric by method and scale, such as ``means["model"]["x4"]["psnr_y"]``.
        gains: relative drop of the perceptual distance below bicubic's, by scale.
    """

    model_config = ConfigDict(frozen=True)

    open: bool
    perceptual: str
    rules: tuple[Rule, ...]
    gains: dict[str, float]
    means: dict[str, dict[str, dict[str, float]]]
    champion: str | None = None
    versus_champion: dict[str, Paired] = {}
    beats_champion: bool | None = None

    def require_open(self) -> None:
        """Raise GateClosedError, naming the rules that failed."""
        if not self.open:
            failed = "; ".join(rule.sentence for rule in self.rules if not rule.passed)
            raise GateClosedError(
                f"the gate is closed: {failed}. Nothing was packaged or registered"
            )


def decide(
    model: ScoreTable,
    bicubic: ScoreTable,
    settings: GateSettings,
    perceptual: str,
    champion: tuple[str, ScoreTable] | None = None,
) -> Verdict:
    """Hold a model's scores against the floors, and against the champion's on the same pairs.

    ``perceptual`` names the distance that decides, such as ``lpips_hed``.
    """
    rules = _rules(model, bicubic, settings, perceptual)
    tables = {"model": model, "bicubic": bicubic}
    against: dict[str, Paired] = {}
    if champion is not None:
        tables["champion"] = champion[1]
        against = {
            f"x{scale}": paired(
                model.column(perceptual, scale),
                champion[1].column(perceptual, scale),
                settings.bootstrap,
            )
            for scale in model.scales
        }
    return Verdict(
        open=all(rule.passed for rule in rules),
        perceptual=perceptual,
        rules=tuple(rules),
        gains={f"x{s}": _gain(model, bicubic, perceptual, s) for s in model.scales},
        means={name: _means(table) for name, table in tables.items()},
        champion=champion[0] if champion else None,
        versus_champion=against,
        beats_champion=all(p.mean < 0 for p in against.values()) if champion else None,
    )


def _rules(
    model: ScoreTable, bicubic: ScoreTable, settings: GateSettings, perceptual: str
) -> list[Rule]:
    """Every floor at every scale; one whose measure was not taken is left out."""
    rules: list[Rule] = []
    for scale in model.scales:
        gain = _gain(model, bicubic, perceptual, scale)
        loss = bicubic.mean("psnr_y", scale) - model.mean("psnr_y", scale)
        rules += [
            _at_least("perceptual gain", scale, gain, settings.min_perceptual_gain, perceptual),
            _at_most("PSNR-Y loss to bicubic", scale, loss, settings.max_psnr_loss_db, " dB"),
        ]
        if model.column("mesh", scale):
            mesh = model.mean("mesh", scale)
            rules.append(_at_most("mesh", scale, mesh, settings.max_mesh, ""))
        if model.column("seam_ratio", scale):
            seams = model.mean("seam_ratio", scale)
            rules.append(_at_most("seam ratio", scale, seams, settings.max_seam_ratio, ""))
    return rules


def _gain(model: ScoreTable, bicubic: ScoreTable, perceptual: str, scale: int) -> float:
    return 1 - model.mean(perceptual, scale) / bicubic.mean(perceptual, scale)


def _at_least(name: str, scale: int, value: float, limit: float, metric: str) -> Rule:
    passed = value >= limit
    sentence = (
        f"x{scale} {metric} is {value:.1%} below bicubic's, "
        f"{'as' if passed else 'but'} at least {limit:.0%} is asked"
    )
    return Rule(name=name, scale=scale, value=value, limit=limit, passed=passed, sentence=sentence)


def _at_most(name: str, scale: int, value: float, limit: float, unit: str) -> Rule:
    passed = value <= limit
    sentence = (
        f"x{scale} {name} is {value:.3f}{unit}, "
        f"{'as' if passed else 'but'} at most {limit:g}{unit} is allowed"
    )
    return Rule(name=name, scale=scale, value=value, limit=limit, passed=passed, sentence=sentence)


def _means(table: ScoreTable) -> dict[str, dict[str, float]]:
    return {f"x{s}": {m: table.mean(m, s) for m in table.metrics} for s in table.scales}
