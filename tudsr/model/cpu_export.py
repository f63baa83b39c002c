"""Making the CPU form of a bundle (see ``tudsr.model.cpu_form``) with torch."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from tudsr.errors import ModelError
from tudsr.images.atomic import write_json, writing_dir
from tudsr.model.base import Base
from tudsr.model.codec import LappedCodec
from tudsr.model.cpu_form import FormRecord, form_folder, quiet_openvino
from tudsr.model.runtime import load_runtime
from tudsr.provenance import file_sha256
from tudsr.release.bundle import load_bundle

# Any size that both halvings and the attention can take; what is traced must not depend on it.
_EXAMPLE_PX = 128


def _lapped(base: Base) -> LappedCodec:
    assert isinstance(base.codec, LappedCodec), "can_have_form"
    return base.codec


class _Encode(nn.Module):
    def __init__(self, base: Base) -> None:
        super().__init__()
        self.codec = _lapped(base)

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, H, W, 3) in [0, 1] to latents."""
        return self.codec.encode(pictures.permute(0, 3, 1, 2) * 2 - 1)


class _Correction(nn.Module):
    """What one step adds to a latent: -sqrt(1 - abar) / sqrt(abar) times the UNet's output.

    Of a preconditioned base alone, whose step leaves a latent as it is where the UNet gives 0. What
    the learned decoder adds is part of it, so that a linear transform is left of the codec.
    """

    def __init__(self, base: Base, unet: nn.Module, timestep: int) -> None:
        super().__init__()
        self.unet, self.learned = unet, _lapped(base).learned
        abar = float(base.alphas_cumprod[timestep])
        self.share = -(((1 - abar) / abar) ** 0.5)
        self.timestep = torch.tensor(timestep)
        self.register_buffer("prompt", base.prompt)

    def forward(self, latents: Tensor) -> Tensor:
        prompt = cast(Tensor, self.prompt).expand(latents.shape[0], -1, -1)
        output = cast(Any, self.unet)(latents, self.timestep, prompt, return_dict=False)[0]
        correction = self.share * cast(Tensor, output)
        if self.learned is None:
            return correction
        return correction + self.learned(latents + correction)


class _Decode(nn.Module):
    """The transform is linear and lossless: a corrected latent gives picture plus correction."""

    def __init__(self, base: Base) -> None:
        super().__init__()
        self.codec = _lapped(base)

    def forward(self, pictures: Tensor, correction: Tensor) -> Tensor:
        added = self.codec.transform_back(correction).permute(0, 2, 3, 1) / 2
        return (pictures + added).clamp(0, 1)


def make_form(bundle: Path) -> Path:
    """Export a bundle's stages; what stood in the form's folder is replaced on success alone.

    Raises:
        ModelError: a bundle that is damaged, or whose base has no such form.
    """
    manifest = load_bundle(bundle)
    runtime = load_runtime(bundle, "cpu", "fp32")
    if not runtime.base.preconditioned or not runtime.merged:
        raise ModelError(f"{bundle} has a base that only torch runs: use runtime torch")
    folder = form_folder(manifest)
    with writing_dir(folder) as temporary, torch.inference_mode():
        for name, (module, examples) in _graphs(runtime.base, runtime).items():
            quiet_openvino().save_model(
                _converted(module, examples), temporary / f"{name}.xml", False
            )
        files = {f.name: file_sha256(f) for f in sorted(temporary.iterdir())}
        record = FormRecord(
            bundle_hash=manifest.bundle_hash, size_multiple=runtime.size_multiple, files=files
        )
        write_json(temporary / "form.json", record.model_dump(mode="json"))
    return folder


def _graphs(base: Base, runtime: Any) -> dict[str, tuple[nn.Module, tuple[Tensor, ...]]]:
    """Module and example inputs by graph."""
    pictures = torch.rand(1, _EXAMPLE_PX, _EXAMPLE_PX, 3)
    latents = _Encode(base)(pictures)
    stages = {
        f"stage{n}": (_Correction(base, unet, runtime.timesteps[n]), (latents,))
        for n, unet in runtime.unets.items()
    }
    return {
        "encode": (_Encode(base), (pictures,)),
        **stages,
        "decode": (_Decode(base), (pictures, latents)),
    }


def _converted(module: nn.Module, examples: tuple[Tensor, ...]) -> Any:
    """The module as a graph with batch, height and width open."""
    ov = quiet_openvino()
    from openvino.tools.ovc import convert_model

    shapes = [
        ov.PartialShape([-1, -1, -1, 3] if e.shape[-1] == 3 else [-1, e.shape[1], -1, -1])
        for e in examples
    ]
    with warnings.catch_warnings():
        # The tracer warns of every shape it compares; tests run the graph at other sizes.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        return convert_model(module.eval(), example_input=examples, input=shapes)
