"""The report as a person sees it: one file, in a browser, with pictures that compare."""

import json

import numpy as np
import pytest
from selenium.webdriver.common.by import By

from tests.browser import browser
from tests.conftest import scene
from tudsr.evaluate.judge import Examination
from tudsr.evaluate.perceptual import Perceptual
from tudsr.evaluate.record import write_evaluation
from tudsr.evaluate.score import Method, ScoredPair, bicubic, score
from tudsr.images.resize import bicubic_resize
from tudsr.profile import GateSettings
from tudsr.release.gate import decide


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An evaluation of a method that mixes the truth with bicubic."""
    pairs = []
    for seed in (1, 2):
        hr = scene(seed, 128).astype(np.float32) / 255
        for scale in (4, 8):
            lr = np.clip(bicubic_resize(hr, 128 // scale, 128 // scale), 0, 1)
            pairs.append(ScoredPair(name=f"<scene {seed}> 0", scale=scale, lr=lr, hr=hr))
    truths = {id(p.lr): p.hr for p in pairs}

    def enlarge(lr, s):
        return (truths[id(lr)] + bicubic(lr, s)) / 2

    half = Method(enlarge, lambda h, w, s: ([64], [64]), enlarge)
    made = score({"model": half, "bicubic": Method(bicubic)}, pairs, Perceptual("random"))
    tables = {name: scored.table for name, scored in made.items()}
    settings = GateSettings(min_perceptual_gain=0.1)
    verdict = decide(tables["model"], tables["bicubic"], settings, "lpips_random")
    metrics = tmp_path_factory.mktemp("metrics") / "metrics.jsonl"
    rows = [{"images_seen": i, "loss_l1": 1 / (i + 1)} for i in range(20)]
    metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path_factory.mktemp("evaluation") / "out"
    examination = Examination(verdict, pairs, made["model"].pictures, tables)
    facts = {"seed": "0", "data": "<b>"}
    write_evaluation(out, examination, {"stage 1": metrics}, facts, judged_by_the_loss=True)
    return out


def test_the_folder_holds_verdict_scores_and_report(folder):
    assert sorted(p.name for p in folder.iterdir()) == [
        "report.html",
        "scores-bicubic.json",
        "scores-model.json",
        "verdict.json",
    ]
    assert json.loads((folder / "verdict.json").read_text())["open"] is True


def test_names_are_escaped_and_nothing_is_fetched(folder):
    page = (folder / "report.html").read_text("utf-8")
    assert "&lt;scene 1&gt;" in page
    assert "<b>" not in page.split("What made it")[1]
    assert 'src="http' not in page
    assert "@import" not in page


def test_what_the_figures_are_is_explained(folder):
    page = (folder / "report.html").read_text("utf-8")
    assert "lpips_random and dists_random use the same trunk as the training loss" in page
    assert "numbers are not LPIPS' or DISTS'" in page
    assert "mesh how far a dotted pattern" in page


@pytest.mark.parametrize("width", [1280, 400])
def test_in_a_browser_all_pictures_show_and_the_slider_moves(folder, width):
    with browser(width) as driver:
        driver.get((folder / "report.html").as_uri())
        assert "gate open" in driver.find_element(By.TAG_NAME, "body").text
        shown = driver.execute_script(
            "return [...document.querySelectorAll('.slider img')].map(i => i.naturalWidth)"
        )
        assert shown == [128] * 8
        curves = driver.find_elements(By.CSS_SELECTOR, ".curves svg")
        assert len(curves) == 1
        slider = driver.find_element(By.CSS_SELECTOR, ".slider input")
        driver.execute_script(
            "arguments[0].value = 20; arguments[0].dispatchEvent(new Event('input'))", slider
        )
        cut = driver.execute_script(
            "return arguments[0].parentNode.style.getPropertyValue('--cut')", slider
        )
        assert cut == "20%"
        too_wide = driver.execute_script(
            "return document.documentElement.scrollWidth > window.innerWidth + 1"
        )
        assert not too_wide
        assert not [e for e in driver.get_log("browser") if e["level"] == "SEVERE"]
