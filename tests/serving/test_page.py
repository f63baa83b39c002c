"""The page in a real browser: drop a picture, get it larger, or read why not."""

import pytest
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from tests.browser import browser
from tests.conftest import scene


@pytest.fixture(scope="module")
def page(server):
    with browser() as driver:
        driver.get(server.url)
        yield driver


def text(page, name: str) -> str:
    return page.find_element(By.ID, name).text


def test_a_chosen_picture_comes_back_larger(page, tmp_path):
    picture = tmp_path / "holiday.png"
    Image.fromarray(scene(1, 32)).save(picture)
    Select(page.find_element(By.ID, "scale")).select_by_visible_text("4")
    page.find_element(By.ID, "file").send_keys(str(picture))
    WebDriverWait(page, 60).until(lambda p: "128 x 128 pixels" in text(p, "state"))
    after = page.find_element(By.ID, "after")
    WebDriverWait(page, 10).until(lambda _: after.get_property("naturalWidth") == 128)
    assert page.find_element(By.ID, "save").get_attribute("download") == "holiday-x4.png"
    assert "bundle" in text(page, "model")


def test_a_text_file_is_refused_with_the_servers_sentence(page, tmp_path):
    fake = tmp_path / "fake.png"
    fake.write_text("this is no picture")
    page.find_element(By.ID, "file").send_keys(str(fake))
    WebDriverWait(page, 30).until(lambda p: "is not a" in text(p, "state"))
    assert page.find_element(By.ID, "state").get_attribute("class") == "error"
    assert not page.find_element(By.ID, "result").is_displayed()


def test_nothing_is_asked_of_another_machine_and_no_script_fails(page):
    asked = page.execute_script(
        "return performance.getEntriesByType('resource').map(e => new URL(e.name).host)"
    )
    assert set(asked) <= {page.execute_script("return location.host"), ""}
    severe = [e for e in page.get_log("browser") if e["level"] == "SEVERE"]
    assert all("v1/upscale" in e["message"] for e in severe), severe
