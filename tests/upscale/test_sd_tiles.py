"""SD2.1's classes at an eighth of their channels, through the upscaler."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.conftest import random_bundle, scene
from tudsr.cli import app
from tudsr.model import striped_vae
from tudsr.model.adapters import add_adapter, save_adapter
from tudsr.model.base import random_base
from tudsr.model.runtime import TorchRuntime
from tudsr.profile import RuntimeSettings, UpscaleSettings, load_profile
from tudsr.upscale.upscaler import Upscaler

ARCH, STAGES = "sd21-eighth", (1, 2)


@pytest.fixture(scope="module")
def adapters(tmp_path_factory) -> dict[int, Path]:
    base, lora = random_base(ARCH, 0), load_profile("sd21").stage1.lora
    paths = {stage: tmp_path_factory.mktemp("sd") / f"{stage}.safetensors" for stage in STAGES}
    for stage, path in paths.items():
        add_adapter(base.unet, f"stage{stage}", lora, stage)
        save_adapter(path, base.unet, f"stage{stage}", lora, 200)
    return paths


def test_a_tile_over_the_memory_goes_through_the_autoencoder_in_stripes_and_stays_the_same(
    adapters, monkeypatch
):
    """Less than a change of 1e-6 in the input makes of it: this random base amplifies rounding."""
    pixels = scene(0, 96).astype(np.float32)[:64] / 255
    striped, decode = [], striped_vae.StripedVae.decode

    def noted(self, latents):
        striped.append(self.rows)
        return decode(self, latents)

    monkeypatch.setattr(striped_vae.StripedVae, "decode", noted)
    made = []
    nudge = np.random.default_rng(0).choice([-1e-6, 1e-6], pixels.shape).astype(np.float32)
    nudged = np.clip(pixels + nudge, 0, 1)
    for given, memory_bytes in ((pixels, None), (nudged, None), (pixels, 2 * 2**20)):
        runtime = TorchRuntime(
            random_base(ARCH, 0),
            adapters,
            RuntimeSettings(device="cpu", precision="fp32"),
            memory_bytes=memory_bytes,
        )
        settings = UpscaleSettings(tile_px=128, overlap_px=32, colour="none")
        made.append(Upscaler(runtime, settings).upscale(given, 2))
        assert bool(striped) == (memory_bytes is not None)
    assert np.ptp(made[0]) > 0.1
    rounding, changed = (np.abs(other - made[0]) for other in made[1:])
    assert changed.max() < rounding.max() < 1e-3
    assert changed.mean() < rounding.mean()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return random_bundle(
        tmp_path_factory.mktemp("bundle"), "sd21", tile_px=128, overlap_px=32, floor_px=64
    )


@pytest.mark.parametrize("scale", [4, 8])
def test_a_bundle_of_sds_classes_enlarges_on_the_command_line(bundle, tmp_path, scale):
    """One stage or the cascade, in tiles; random weights make rubbish, but of the right size."""
    small = Image.fromarray(scene(5, 40)[:24])
    small.save(tmp_path / "in.png")
    command = ["upscale", str(tmp_path / "in.png"), "--model", str(bundle), "--scale", str(scale)]
    made = []
    for name in ("a.png", "b.png"):
        how = ["--precision", "fp32", "--fidelity", "0"]
        done = CliRunner().invoke(app, [*command[:2], str(tmp_path / name), *command[2:], *how])
        assert done.exit_code == 0, done.output
        made.append(np.asarray(Image.open(tmp_path / name)).astype(np.float32))
    assert made[0].shape == (24 * scale, 40 * scale, 3)
    plain = small.resize((40 * scale, 24 * scale), Image.Resampling.BICUBIC)
    assert np.abs(made[0] - np.asarray(plain)).mean() > 2, "the networks had a say"
    assert (made[0] == made[1]).all()
