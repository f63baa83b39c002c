"""The model that a command works with, opened late."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tudsr.errors import SettingsError
from tudsr.upscale.memory import beside_bands, default_budget, fitted, smaller_tile, tiles_at_once
from tudsr.upscale.target import Target

if TYPE_CHECKING:
    from tudsr.profile import UpscaleSettings
    from tudsr.release.bundle import BundleManifest
    from tudsr.release.locate import Located
    from tudsr.upscale.upscaler import Upscaler


def signature(
    bundle: BundleManifest,
    version: str | None,
    target: Target,
    how: UpscaleSettings,
    fidelity: float,
    running: str = "auto, seed None, runtime auto",
) -> str:
    """Program, model and whatever else decides a result, as a picture's metadata name them.

    Args:
        bundle: the model.
        version: its number in the registry, if it is there.
        target: the wanted size.
        how: tiles and colour correction.
        fidelity: 0 to 1.
        running: precision, seed and runtime.
    """
    from importlib.metadata import version as installed

    window = f", window {how.window_px}/{how.window_overlap_px}" if how.window_px else ""
    numbered = f"{bundle.model_name} {version or ''}".strip()
    return (
        f"tudsr {installed('tudsr')}, model {numbered} ({bundle.bundle_hash[:12]}), "
        f"{target}, fidelity {fidelity:g}, tile {how.tile_px}/{how.overlap_px}{window}, "
        f"colour {how.colour}, {running}"
    )


@dataclass
class ChosenModel:
    """The model that was asked for, opened when the first picture turns out to be readable.

    Attributes:
        model: a bundle's folder, a version or an alias; None for the champion.
        target: the wanted size.
        fidelity: 0, most faithful, to 1, most generated.
        device: where it runs.
        precision: ``auto``, ``fp32`` or ``bf16``.
        runtime: ``auto``, ``torch`` or ``openvino``; see `tudsr.model.opening`.
        seed: of what is drawn; None draws nothing.
        strip: leave EXIF, XMP and resolution out of the result.
        memory_bytes: the most a picture may take beside the model; see `tudsr.upscale.memory`.
        changes: settings of ``upscale`` that replace the model's own, where not None.
    """

    model: str | None
    target: Target
    fidelity: float = 1.0
    device: str = "auto"
    precision: str = "auto"
    runtime: str = "auto"
    seed: int | None = None
    strip: bool = False
    memory_bytes: int = field(default_factory=default_budget)
    changes: dict[str, Any] = field(default_factory=dict[str, Any])

    def upscaler(self) -> Upscaler:
        """Loaded once."""
        return self._upscaler

    def signature(self) -> str:
        """Program, model and whatever else was asked for of the result: skipping relies on it.

        Not where it runs (``device``, and what ``auto`` came to): that moves results by rounding
        alone, and a folder begun on one machine can be gone on with on another.
        """
        stripped = ", stripped" if self.strip else ""
        return signature(
            self._bundle,
            self._located.version,
            self.target,
            self._settings,
            self.fidelity,
            f"{self.precision}, seed {self.seed}, runtime {self.runtime}{stripped}",
        )

    @cached_property
    def _located(self) -> Located:
        from tudsr.release.locate import locate

        return locate(self.model)

    @cached_property
    def _bundle(self) -> BundleManifest:
        from tudsr.release.bundle import load_bundle

        return load_bundle(self._located.path, verify=False)  # the runtime checks every file

    def smaller_tile(self) -> str | None:
        """A sentence where tiles are smaller than the model's own, so as to fit the memory."""
        if self.changes.get("tile_px") is not None:
            return None
        return smaller_tile(self._bundle.upscale, self._settings, self.memory_bytes)

    @cached_property
    def _settings(self) -> UpscaleSettings:
        """The model's, with the changes, and a tile that fits the memory."""
        how = self._changed_settings
        fitting = fitted(how, self.memory_bytes, self._bundle.arch)
        if fitting.tile_px != how.tile_px and self.changes.get("tile_px") is not None:
            raise SettingsError(
                f"a tile of {how.tile_px} does not fit the memory of "
                f"{self.memory_bytes / 2**20:,.0f} MiB: give --tile {fitting.tile_px}, or more "
                "--memory"
            )
        return fitting

    @cached_property
    def _changed_settings(self) -> UpscaleSettings:
        from pydantic import ValidationError

        from tudsr.profile import UpscaleSettings

        changed = {name: value for name, value in self.changes.items() if value is not None}
        try:
            return UpscaleSettings.model_validate({**self._bundle.upscale.model_dump(), **changed})
        except ValidationError as error:
            first = error.errors()[0]
            raise SettingsError(
                f"{first['loc'][0]}: {first['msg']} (got {first['input']!r})"
            ) from None

    @cached_property
    def _upscaler(self) -> Upscaler:
        from tudsr.model.opening import open_runtime
        from tudsr.upscale.upscaler import Upscaler

        how = self._settings
        memory_bytes = beside_bands(self.memory_bytes)
        runtime = open_runtime(
            self._located.path,
            self.device,
            self.precision,
            self.runtime,
            self.seed,
            memory_bytes,
            tiles_at_once(self.memory_bytes, how.tile_px, self._bundle.arch),
        )
        return Upscaler(runtime, how)
