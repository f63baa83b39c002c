"""`tudsr evaluate --benchmark`, on generated folders in the published layouts."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio
from typer.testing import CliRunner

from tests.conftest import scene
from tudsr.cli import app
from tudsr.errors import DataError, SettingsError
from tudsr.evaluate import pyiqa_scores
from tudsr.evaluate.benchmark import SetPicture, find_pictures
from tudsr.evaluate.paper_table import published


@pytest.fixture
def realsr(tmp_path) -> Path:
    """Three pairs in the layout of RealSR and DRealSR."""
    folder = tmp_path / "set"
    for name in ("test_LR", "test_HR"):
        (folder / name).mkdir(parents=True)
    for i in range(3):
        whole = Image.fromarray(scene(i, 128))
        whole.save(folder / "test_HR" / f"Canon_{i:03}.png")
        whole.resize((32, 32), Image.Resampling.BICUBIC).save(
            folder / "test_LR" / f"Canon_{i:03}.png"
        )
    return folder


def evaluate(*arguments: object):
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def rows(output: str) -> dict[str, dict[str, str]]:
    """The Markdown table as method -> metric -> cell."""
    lines = [line.strip("| ").split(" | ") for line in output.splitlines() if line.startswith("| ")]
    heads = [cell.split()[0] for cell in lines[0]]
    return {line[0]: dict(zip(heads[1:], line[1:], strict=True)) for line in lines[1:]}


def test_our_row_stands_beside_the_published_ones(realsr, bundle, tmp_path):
    out = tmp_path / "out"
    options = ["--benchmark", "realsr", "--model", bundle, "--out", out, "--device", "cpu"]
    done = evaluate(realsr, *options)
    assert done.exit_code == 0, done.output
    table = rows(done.stdout)
    assert len(table) == 11
    assert table["OSEDiff"]["LPIPS"] == "0.2921"
    assert table["TUDSR-S (M2N2)"]["MUSIQ"] == "70.2406"
    assert table["OSEDiff"]["PSNR"] == "-"
    ours = table["this model"]
    expected = []
    for path in sorted((realsr / "test_HR").iterdir()):
        made = np.asarray(Image.open(out / "pictures" / path.name))
        luma = [rgb2ycbcr(image)[..., 0] for image in (np.asarray(Image.open(path)), made)]
        expected.append(peak_signal_noise_ratio(*luma, data_range=255))
    assert float(ours["PSNR"]) == pytest.approx(np.mean(expected), abs=0.01)
    assert 0 < float(ours["SSIM"]) < 1
    assert float(ours["NIQE"]) > 0
    assert {ours[m] for m in ("LPIPS", "FID", "CLIPIQA", "MUSIQ", "MANIQA")} == {"-"}
    assert "need pyiqa: `uv pip install -e '.[paper-metrics]'`" in done.stdout
    assert "not comparable: 3 pictures, RealSR has 100." in done.stdout
    assert "not comparable: inputs of 32 x 32 pixels, RealSR's have 128 x 128." in done.stdout
    kept = json.loads((out / "scores.json").read_text())
    assert kept["scores"]["PSNR"] == pytest.approx(np.mean(expected), abs=1e-3)
    assert "colour adain" in kept["model"]
    assert (out / "table.md").read_text() == done.stdout
    times = {p: p.stat().st_mtime_ns for p in (out / "pictures").iterdir()}
    assert evaluate(realsr, *options).stdout == done.stdout
    assert {p: p.stat().st_mtime_ns for p in (out / "pictures").iterdir()} == times


def test_at_x8_there_is_no_truth_and_in_reallr200_no_published_row(realsr, bundle, tmp_path):
    options = ["--model", bundle, "--device", "cpu", "--scale", "8"]
    done = evaluate(realsr, "--benchmark", "drealsr", "--out", tmp_path / "a", *options)
    assert done.exit_code == 0, done.output
    table = rows(done.stdout)
    assert "PSNR" not in table["this model"]
    assert table["TUDSR-S (M4N2)"]["CLIPIQA"] == "0.7186"
    flat = realsr / "test_LR"
    done = evaluate(flat, "--benchmark", "reallr200", "--out", tmp_path / "b", *options)
    assert list(rows(done.stdout)) == ["this model"]
    assert "the paper has no x8 figures of this test set." in done.stdout


def test_the_published_tables_are_whole():
    """Values as a reader finds them in the paper's Tables 1 and 2."""
    for name in ("realsr", "drealsr", "reallq250", "reallr200"):
        assert len(published(name, 4).rows) == 10
    for name in ("realsr", "drealsr", "reallq250"):
        table = published(name, 8)
        assert len(table.rows) == 6
        assert len(table.metrics) == 7
    assert published("drealsr", 4).rows["PiSA-SR"]["LPIPS"] == 0.2960
    assert published("reallq250", 4).rows["DiffBIR"]["NIQE"] == 3.5608
    assert published("reallr200", 4).rows["InvSR"]["MANIQA"] == 0.6481
    assert published("realsr", 8).rows["OSEDiff"]["CLIPIQA"] == 0.6976
    assert published("reallq250", 8).rows["TUDSR-S (M4N2)"]["MUSIQ"] == 63.2129
    assert all(
        row.keys() == set(published(name, scale).metrics)
        for name in ("realsr", "drealsr", "reallq250")
        for scale in (4, 8)
        for row in published(name, scale).rows.values()
    )


def test_pairs_are_found_by_names_that_say_their_side(realsr):
    for path in list((realsr / "test_LR").iterdir()):
        path.rename(path.with_name(f"{path.stem}_LR4.png"))
    for path in list((realsr / "test_HR").iterdir()):
        path.rename(path.with_name(f"{path.stem}_HR.png"))
    pairs = find_pictures(realsr, "realsr", 4)
    assert [(p.lr.name, p.hr.name) for p in pairs if p.hr] == [
        (f"Canon_{i:03}_LR4.png", f"Canon_{i:03}_HR.png") for i in range(3)
    ]


def test_folders_that_are_no_test_set(realsr, bundle, tmp_path):
    with pytest.raises(DataError, match="not RealSR in its published layout: it needs test_LR"):
        find_pictures(tmp_path, "realsr", 4)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no pictures in"):
        find_pictures(tmp_path / "empty", "reallq250", 4)
    done = evaluate(realsr, "--benchmark", "realsr", "--scale", "3")
    assert isinstance(done.exception, SettingsError)
    hr = realsr / "test_HR" / "Canon_001.png"
    Image.fromarray(scene(0, 64)).save(hr)
    options = ["--benchmark", "realsr", "--model", bundle, "--out", tmp_path / "o"]
    done = evaluate(realsr, *options)
    assert isinstance(done.exception, DataError)
    assert "is 64 x 64, the result of Canon_001.png is 128 x 128" in str(done.exception)
    hr.unlink()
    with pytest.raises(DataError, match=r"1 inputs of .* no original in test_HR.*Canon_001.png"):
        find_pictures(realsr, "realsr", 4)
    (realsr / "test_LR" / "Canon_000.png").write_text("no picture")
    options = ["--benchmark", "realsr", "--model", bundle, "--out", tmp_path / "other"]
    done = evaluate(realsr, "--scale", "8", *options)
    assert isinstance(done.exception, DataError)
    assert "1 of 3 pictures could not be enlarged" in str(done.exception)


STAND_IN = '''
"""Answers as pyiqa's create_metric does, with figures that a test can foresee."""
from pathlib import Path
from types import SimpleNamespace
import torch

def create_metric(name, device):
    if name == "clipiqa+":
        raise OSError("cannot reach the host of the weights")
    if name == "fid":
        return lambda ours, theirs: torch.tensor(float(len(list(Path(ours).iterdir()))))
    if name == "lpips":
        return lambda a, b: (a - b).abs().mean()
    known = {"clipiqa": 1, "nima": 2, "niqe": 3, "liqe": 4, "musiq": 5, "maniqa-pipal": 6}
    return lambda a: a.new_tensor(float(known[name])) + 0 * a.mean()
'''


def test_with_pyiqa_its_figures_are_taken_and_a_metric_that_fails_is_named(
    realsr,
    bundle,
    tmp_path,
    monkeypatch,
    request,
):
    """Against a stand-in of pyiqa's interface: the package itself fetches weights."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "pyiqa.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.delitem(sys.modules, "pyiqa", raising=False)
    request.addfinalizer(lambda: sys.modules.pop("pyiqa", None))
    out = tmp_path / "out"
    options = ["--benchmark", "realsr", "--model", bundle, "--out", out, "--device", "cpu"]
    done = evaluate(realsr, *options)
    assert done.exit_code == 0, done.output
    ours = rows(done.stdout)["this model"]
    got = [ours[m] for m in ("CLIPIQA", "NIMA", "NIQE", "LIQE", "MUSIQ", "MANIQA", "FID")]
    assert [float(v) for v in got] == [1, 2, 3, 4, 5, 6, 3]
    truth = [np.asarray(Image.open(p), float) / 255 for p in sorted((realsr / "test_HR").iterdir())]
    made = [np.asarray(Image.open(p), float) / 255 for p in sorted((out / "pictures").iterdir())]
    distance = np.mean([np.abs(a - b).mean() for a, b in zip(truth, made, strict=True)])
    assert float(ours["LPIPS"]) == pytest.approx(distance, abs=1e-4)
    assert ours["CLIPIQA+"] == "-"
    assert "CLIPIQA+: pyiqa's 'clipiqa+' failed: cannot reach the host" in done.stdout


def test_fid_is_of_the_set_alone_whatever_else_lies_in_the_folders(tmp_path, monkeypatch):
    """Such as the results of an earlier run on more pictures."""
    seen: list[list[bytes]] = []

    def metric(*folders: str) -> float:
        seen.extend([file.read_bytes() for file in sorted(Path(f).iterdir())] for f in folders)
        return 7.0

    stand_in = SimpleNamespace(create_metric=lambda name, device: metric)
    monkeypatch.setattr(pyiqa_scores, "import_module", lambda name: stand_in)
    for name in ("lr", "hr", "out"):
        (tmp_path / name).mkdir()
        for picture in ("a", "b", "stale"):
            (tmp_path / name / f"{picture}.png").write_text(f"{name} {picture}")
    pictures = [SetPicture(tmp_path / "lr" / p, tmp_path / "hr" / p) for p in ("b.png", "a.png")]
    results = [tmp_path / "out" / p.lr.name for p in pictures]
    assert pyiqa_scores._mean("fid", pictures, results, "cpu") == 7.0
    assert seen == [[b"hr b", b"hr a"], [b"out b", b"out a"]]
