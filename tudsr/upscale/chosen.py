"""The model that a command works with, opened late."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tudsr.upscale.target import Target

if TYPE_CHECKING:
    from tudsr.profile import UpscaleSettings
    from tudsr.release.bundle import BundleManifest
    from tudsr.upscale.upscaler import Upscaler


@dataclass
class ChosenModel:
    """The model that was asked for, opened when the first picture turns out to be readable.

    Attributes:
        model: a bundle's folder, a version or an alias; None for the champion.
        target: the wanted size.
        fidelity: 0, most faithful, to 1, most generated.
        device: where it runs.
        precision: ``auto``, ``fp32`` or ``bf16``.
        changes: settings of ``upscale`` that replace the model's own, where not None.
    """

    model: str | None
    target: Target
    fidelity: float = 1.0
    device: str = "auto"
    precision: str = "auto"
    changes: dict[str, Any] = field(default_factory=dict[str, Any])

    def upscaler(self) -> Upscaler:
        """Loaded once."""
        return self._upscaler

    def signature(self) -> str:
        """Program, model and whatever else decides the result: skipping relies on it."""
        from importlib.metadata import version

        bundle, how = self._bundle[1], self._settings
        return (
            f"tudsr {version('tudsr')}, model {bundle.model_name} {bundle.bundle_hash[:12]}, "
            f"{self.target}, fidelity {self.fidelity:g}, tile {how.tile_px}/{how.overlap_px}, "
            f"colour {how.colour}, {self.precision}"
        )

    @cached_property
    def _bundle(self) -> tuple[Path, BundleManifest]:
        from tudsr.release.bundle import load_bundle
        from tudsr.release.locate import locate_model

        folder = locate_model(self.model)
        return folder, load_bundle(folder, verify=False)  # the runtime checks every file

    @cached_property
    def _settings(self) -> UpscaleSettings:
        from pydantic import ValidationError

        from tudsr.errors import SettingsError
        from tudsr.profile import UpscaleSettings

        changed = {name: value for name, value in self.changes.items() if value is not None}
        try:
            return UpscaleSettings.model_validate(
                {**self._bundle[1].upscale.model_dump(), **changed}
            )
        except ValidationError as error:
            first = error.errors()[0]
            raise SettingsError(
                f"{first['loc'][0]}: {first['msg']} (got {first['input']!r})"
            ) from None

    @cached_property
    def _upscaler(self) -> Upscaler:
        from tudsr.model.runtime import load_runtime
        from tudsr.upscale.upscaler import Upscaler

        runtime = load_runtime(self._bundle[0], self.device, self.precision)
        return Upscaler(runtime, self._settings)
