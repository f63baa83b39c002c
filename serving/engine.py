"""What answers a request: the model in use, one picture at a time."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path

from tudsr.errors import ImageError, ModelError, RegistryError
from tudsr.images.read import read_image
from tudsr.images.write import check_fits, encode_image
from tudsr.release.bundle import BundleManifest, load_bundle
from tudsr.release.locate import Located, locate
from tudsr.upscale.cascade import pass_sizes, split_scale
from tudsr.upscale.upscaler import Upscaler

MEDIA_TYPES = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "WEBP": "image/webp",
    "TIFF": "image/tiff",
}
_RECHECK_S = 5.0


@dataclass(frozen=True)
class Answer:
    """An enlarged picture, encoded.

    Attributes:
        size: (height, width) of the result, pixels.
        seconds: spent on it, waiting not counted.
    """

    data: bytes
    media_type: str
    model: str
    size: tuple[int, int]
    seconds: float


class Engine:
    """Holds the model and enlarges pictures with it, one after the other.

    Args:
        model: a bundle's folder, a version or an alias; None follows the champion: when the alias
            moves, the next picture is made by the new one.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        max_output_px: largest result, pixels in all.

    Raises:
        ModelError: no model to serve.
    """

    def __init__(
        self, model: str | None = None, device: str = "auto", max_output_px: int = 8192**2
    ) -> None:
        self.wanted, self.device, self.max_output_px = model, device, max_output_px
        self.lock = threading.Lock()
        self._use(locate(model))

    @property
    def name(self) -> str:
        """Model and version, as shown to people."""
        version = f" version {self.located.version}" if self.located.version else ""
        return f"{self.manifest.model_name}{version} ({self.manifest.bundle_hash[:12]})"

    def enlarge(self, data: bytes, scale: float, fmt: str | None) -> Answer:
        """Decode, enlarge by ``scale``, encode as ``fmt`` (None keeps the format, else PNG).

        Raises:
            ImageError: a picture that cannot be read, or a result too large.
            SettingsError: a scale out of range.
        """
        picture = read_image(data)
        height, width = pass_sizes(*picture.size, split_scale(scale))[-1]
        if height * width > self.max_output_px:
            raise ImageError(
                "too_large",
                f"x{scale:g} makes {width} x {height}, over the limit of {self.max_output_px:,} "
                "pixels: lower the scale or send a smaller picture",
            )
        chosen = fmt or (picture.format if picture.format in MEDIA_TYPES else "PNG")
        see_through = picture.alpha is not None and bool(picture.alpha.min() < 1)
        check_fits(chosen, height, width, transparent=see_through)
        with self.lock:
            self._follow()
            start = time.monotonic()
            result = self.upscaler.upscale_picture(picture, scale)
            name = self.name
        encoded = encode_image(result, chosen)
        seconds = time.monotonic() - start
        return Answer(encoded, MEDIA_TYPES[chosen], name, result.size, seconds)

    def _follow(self) -> None:
        """Take over a champion that changed; a registry that does not answer changes nothing."""
        if time.monotonic() - self.checked < _RECHECK_S:
            return
        try:
            found = locate(self.wanted)
            if found.path != self.located.path:
                self._use(found)
        except (RegistryError, ModelError):
            pass
        self.checked = time.monotonic()

    def _use(self, found: Located) -> None:
        from tudsr.model.runtime import load_runtime

        manifest = load_bundle(found.path, verify=False)  # the runtime checks every file
        upscaler = Upscaler(load_runtime(found.path, self.device), manifest.upscale)
        self.located: Located = found
        self.manifest: BundleManifest = manifest
        self.upscaler: Upscaler = upscaler
        self.checked = time.monotonic()


def bundled_model() -> str | None:
    """The bundle that a Bento carries beside this package, if this is one."""
    folder = Path(__file__).resolve().parents[1] / "bundle"
    return str(folder) if folder.is_dir() else None
