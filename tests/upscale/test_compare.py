"""The before/after page, as a person meets it."""

import re

import numpy as np
import pytest
from PIL import Image

from tests.browser import browser
from tests.conftest import scene
from tudsr.errors import ImageError
from tudsr.upscale.compare import write_comparison


@pytest.fixture
def page(tmp_path):
    Image.fromarray(scene(0, 64)).save(tmp_path / "small & <b>.png")
    Image.fromarray(255 - scene(0, 256)).save(tmp_path / "large.tif")
    write_comparison(tmp_path / "small & <b>.png", tmp_path / "large.tif", tmp_path / "page.html")
    return tmp_path / "page.html"


def test_it_needs_no_address_but_its_own(page):
    text = page.read_text("utf-8")
    assert re.findall(r'(?:src|href)="(?!data:image/png;base64,)', text) == []
    assert "http" not in re.sub(r"base64,[^\"]+", "", text)
    assert "small &amp; &lt;b&gt;.png" in text


def test_the_slider_moves_by_keyboard_and_by_pointer(page):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    with browser(500, 800) as driver:
        driver.get(page.as_uri())
        line = driver.find_element(By.CSS_SELECTOR, ".line")
        figure = driver.find_element(By.TAG_NAME, "figure")

        def share():
            return (line.rect["x"] + 1 - figure.rect["x"]) / figure.rect["width"]

        assert share() == pytest.approx(0.5, abs=0.01)
        slider = driver.find_element(By.CSS_SELECTOR, "input")
        slider.send_keys(Keys.ARROW_RIGHT * 5)
        assert share() == pytest.approx(0.6, abs=0.01)
        right = int(figure.rect["width"] * 0.4)
        ActionChains(driver).move_to_element(figure).click_and_hold().move_by_offset(
            right, 0
        ).release().perform()
        assert share() == pytest.approx(0.9, abs=0.03)
        shown = Image.open(__import__("io").BytesIO(figure.screenshot_as_png)).convert("RGB")
        left = np.asarray(shown)[10:-10, 10:60].astype(int)
        before = np.asarray(Image.fromarray(scene(0, 64)).resize(shown.size))[10:-10, 10:60]
        assert np.abs(left - before).mean() < 12, "the picture before is on the left"
        assert [e for e in driver.get_log("browser") if e["level"] == "SEVERE"] == []


def test_pictures_of_different_shapes_are_refused(tmp_path):
    Image.fromarray(scene(0, 64)).save(tmp_path / "a.png")
    Image.fromarray(scene(0, 64)[:32]).save(tmp_path / "b.png")
    with pytest.raises(ImageError, match="differ in shape"):
        write_comparison(tmp_path / "a.png", tmp_path / "b.png", tmp_path / "page.html")
