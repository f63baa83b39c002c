"""The CPU form: the same pictures as torch's, and nothing of torch loaded."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.conftest import scene
from tudsr.errors import ModelError, SettingsError
from tudsr.model.cpu_export import make_form
from tudsr.model.cpu_form import GRAPHS
from tudsr.model.opening import open_runtime
from tudsr.model.runtime import TorchRuntime, load_runtime

GREY_LEVEL = 1 / 255
HEAVY = ["torch", "diffusers", "peft", "transformers", "mlflow", "openvino_telemetry",
         "openvino.tools"]  # fmt: skip


@pytest.fixture(scope="module")
def form(bundle):
    return make_form(bundle)


def tiles(height, width, count=1):
    return [scene(s, max(height, width))[:height, :width].astype("f") / 255 for s in range(count)]


@pytest.mark.parametrize("size", [(64, 64), (32, 96), (128, 64)])
def test_both_stages_are_torchs_at_any_size(bundle, form, size):
    torch, ours = load_runtime(bundle, "cpu", "fp32"), open_runtime(bundle, "cpu", "fp32")
    for stage in (1, 2):
        expected = torch.restore(*tiles(*size), stage)
        assert not np.allclose(expected, *tiles(*size), atol=GREY_LEVEL), "the step does nothing"
        np.testing.assert_allclose(ours.restore(*tiles(*size), stage), expected, atol=1e-4)


def test_bf16_stays_within_a_grey_level(bundle, form):
    torch, ours = load_runtime(bundle, "cpu", "fp32"), open_runtime(bundle, "cpu", "bf16")
    for stage in (1, 2):
        expected = torch.restore(*tiles(96, 96), stage)
        assert np.abs(ours.restore(*tiles(96, 96), stage) - expected).max() < GREY_LEVEL
        exact = ours.restore(*tiles(96, 96), stage, full_precision=True)
        np.testing.assert_allclose(exact, expected, atol=1e-4)


def test_a_tile_that_is_not_finite_on_the_way_is_seen_and_its_neighbour_kept(
    bundle, form, monkeypatch
):
    """The decoder ends with a clamp, which makes 0 of NaN."""
    ours = open_runtime(bundle, "cpu", "fp32")
    run = ours._run

    def broken(graph, precision, *inputs):
        made = run(graph, precision, *inputs)
        if graph == "stage1":
            made[1, 0, 3, 3] = np.nan
        return made

    whole = ours.restore_batch(tiles(32, 32, 2), 1)
    monkeypatch.setattr(ours, "_run", broken)
    kept, spoilt = ours.restore_batch(tiles(32, 32, 2), 1)
    assert np.array_equal(kept, whole[0]) and np.isnan(spoilt).all()


def test_what_was_compiled_for_one_precision_is_not_taken_for_another(
    bundle, tmp_path, monkeypatch
):
    """OpenVINO made NaN of attention so, on AMX."""
    monkeypatch.setenv("TUDSR_FORMS", str(tmp_path / "forms"))
    fp32, bf16 = (open_runtime(bundle, "cpu", p) for p in ("fp32", "bf16"))
    made = [r.restore(*tiles(96, 96), 1) for r in (fp32, bf16, fp32)]
    np.testing.assert_allclose(made[1], made[0], atol=GREY_LEVEL)
    assert np.array_equal(made[0], made[2])
    kept = list((tmp_path / "forms").glob("*/compiled/bf16/*.blob"))
    assert len(kept) == 1, "the stage; the codec is fp32"


def test_a_batch_is_its_tiles_one_by_one(bundle, form):
    ours = open_runtime(bundle, "cpu", "fp32")
    together = ours.restore_batch(tiles(64, 96, 3), 1)
    np.testing.assert_allclose(together, [ours.restore(t, 1) for t in tiles(64, 96, 3)], atol=1e-5)


def test_the_first_upscale_makes_the_form_and_the_next_needs_no_torch(
    bundle, tmp_path, monkeypatch
):
    monkeypatch.setenv("TUDSR_FORMS", str(tmp_path / "forms"))
    Image.fromarray(scene(0, 64)).save(tmp_path / "in.png")
    program = (
        "import sys; from tudsr.cli import main; sys.argv[1:] = {args!r}\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "print('LOADED', [m for m in {heavy!r} if sys.modules.get(m)])"
    )
    told = []
    for out in ("first.png", "second.png"):
        args = ["upscale", str(tmp_path / "in.png"), str(tmp_path / out), "--model", str(bundle)]
        done = subprocess.run(
            [sys.executable, "-c", program.format(args=args, heavy=HEAVY)],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        told.append((done.stdout, done.stderr))
    assert "making the CPU form" in told[0][1]
    assert told[1][0].endswith("LOADED []\n") and "making" not in told[1][1]
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_two_processes_give_the_same_bytes(bundle, form, tmp_path, precision):
    """A picture of several tiles, both stages; the form is there already."""
    Image.fromarray(scene(0, 80)).save(tmp_path / "in.png")
    made: list[bytes] = []
    for out in ("first.png", "second.png"):
        command = [sys.executable, "-m", "tudsr", "upscale", tmp_path / "in.png", tmp_path / out]
        options = ["--model", bundle, "--precision", precision, "--runtime", "openvino"]
        done = subprocess.run([*command, *options], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        made.append((tmp_path / out).read_bytes())
    assert made[0] == made[1]


@pytest.mark.parametrize("name", ["form.json", *(f"{g}.bin" for g in GRAPHS[:2])])
def test_a_damaged_form_is_refused_with_the_remedy(bundle, form, name):
    path = form / name
    kept = path.read_bytes()
    path.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    try:
        with pytest.raises(ModelError, match="made anew"):
            open_runtime(bundle, "cpu")
    finally:
        path.write_bytes(kept)


def test_openvino_is_refused_for_a_gpu(bundle):
    with pytest.raises(SettingsError, match="device cpu"):
        open_runtime(bundle, "cuda", runtime="openvino")


def test_torch_runs_the_model_where_a_form_cannot_be_kept(bundle, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("TUDSR_FORMS", str(tmp_path / "file" / "forms"))
    assert isinstance(open_runtime(bundle, "cpu"), TorchRuntime)


_SIGNALLED = """
import faulthandler, os, pathlib, signal, sys
import numpy as np
from tudsr.model.cpu_runtime import CpuRuntime
from tudsr.release.bundle import load_bundle
faulthandler.enable()
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
form, bundle = pathlib.Path(sys.argv[1]), load_bundle(pathlib.Path(sys.argv[2]))
first, second = (CpuRuntime(form, bundle) for _ in range(2))
for runtime in (first, second):
    runtime.restore(np.zeros((32, 32, 3), np.float32), 1)
del first, runtime
del second
__import__("gc").collect()
os.kill(os.getpid(), signal.SIGUSR1)
"""


def test_a_signal_finds_its_stack_when_runtimes_have_gone(bundle, form):
    command = [sys.executable, "-c", _SIGNALLED, str(form), str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
