"""Scoring methods on pairs, and the gate's decision on the tables."""

import numpy as np
import pytest

from tests.conftest import scene
from tudsr.errors import GateClosedError
from tudsr.evaluate.mesh import mesh
from tudsr.evaluate.perceptual import Perceptual
from tudsr.evaluate.score import (
    ImageScore,
    Method,
    ScoredPair,
    ScoreTable,
    bicubic,
    keep_table,
    kept_table,
    score,
)
from tudsr.images.resize import bicubic_resize
from tudsr.profile import GateSettings
from tudsr.release.gate import decide


@pytest.fixture(scope="module")
def pairs():
    hr = scene(3, 128).astype(np.float32) / 255
    lr = np.clip(bicubic_resize(hr, 32, 32), 0, 1)
    return [ScoredPair(name="scene 0", scale=4, lr=lr, hr=hr)]


def test_the_truth_beats_bicubic_on_everything_with_a_reference(pairs):
    truth = Method(
        lambda lr, scale: pairs[0].hr, lambda h, w, s: ([64], [64]), lambda lr, s: pairs[0].hr
    )
    made = score({"truth": truth, "bicubic": Method(bicubic)}, pairs, Perceptual("random"))
    best, cubic = made["truth"].table.scores[0].values, made["bicubic"].table.scores[0].values
    assert best["psnr_y"] > cubic["psnr_y"]
    assert best["ssim_y"] == pytest.approx(1)
    assert best["lpips_random"] < 1e-5 < cubic["lpips_random"]
    assert best["seam_ratio"] == 1
    assert best["mesh"] == 0
    assert "seam_ratio" not in cubic
    assert made["bicubic"].pictures[0].shape == (128, 128, 3)


def test_a_mesh_is_told_only_where_there_is_room_for_it():
    small, large = (np.full((side, side, 3), 0.5, np.float32) for side in (63, 64))
    assert mesh(small, small) is None
    assert mesh(large, large) == 0
    dotted = large.copy()
    dotted[::4, ::4] = 0.6
    assert (mesh(dotted, large) or 0) > 0.1


def test_results_are_rounded_as_a_viewer_gets_them(pairs):
    made = score({"bicubic": Method(bicubic)}, pairs, Perceptual("random", dists=False))
    levels = made["bicubic"].pictures[0] * 255
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-4)


def test_a_kept_table_comes_back_under_its_key_only(tmp_path):
    table = _table("bicubic", 0.3, 25.0)
    key = {"pairs": "a", "code": "b"}
    keep_table(tmp_path, key, table)
    assert kept_table(tmp_path, key) == table
    assert kept_table(tmp_path, {**key, "code": "c"}) is None


def _table(
    method: str, lpips: float, psnr: float, seams: float | None = None, mesh: float = 0.0
) -> ScoreTable:
    values = {"lpips_hed": lpips, "psnr_y": psnr, "mesh": mesh}
    values |= {} if seams is None else {"seam_ratio": seams}
    scores = [
        ImageScore(name=f"p {i}", scale=scale, values=values) for scale in (4, 8) for i in range(3)
    ]
    return ScoreTable(method=method, scores=tuple(scores))


@pytest.mark.parametrize(
    ("lpips", "psnr", "seams", "mesh", "wrong"),
    [
        (0.2, 24.5, 1.0, 0.05, None),
        (0.25, 24.5, 1.0, 0.05, "lpips_hed is 16.7% below"),
        (0.2, 23.9, 1.0, 0.05, "PSNR-Y loss to bicubic is 1.100 dB"),
        (0.2, 24.5, 1.2, 0.05, "seam ratio is 1.200"),
        (0.2, 24.5, 1.0, 0.20, "mesh is 0.200"),
    ],
)
def test_each_floor_closes_the_gate_by_itself(lpips, psnr, seams, mesh, wrong):
    model, cubic = _table("model", lpips, psnr, seams, mesh), _table("bicubic", 0.3, 25.0)
    verdict = decide(model, cubic, GateSettings(), "lpips_hed")
    assert verdict.open == (wrong is None)
    if wrong is None:
        verdict.require_open()
    else:
        with pytest.raises(GateClosedError, match="Nothing was packaged") as caught:
            verdict.require_open()
        assert wrong in str(caught.value)


def test_losing_to_the_champion_is_reported_and_leaves_the_gate_open():
    model, cubic = _table("model", 0.2, 25.0), _table("bicubic", 0.3, 25.0)
    better = _table("champion", 0.15, 25.0)
    verdict = decide(model, cubic, GateSettings(), "lpips_hed", ("3", better))
    assert verdict.open
    assert verdict.champion == "3"
    assert verdict.beats_champion is False
    assert verdict.versus_champion["x4"].mean == pytest.approx(0.05)
    assert decide(better, cubic, GateSettings(), "lpips_hed", ("3", model)).beats_champion
