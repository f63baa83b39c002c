"""The page in a real browser: a picture goes in, a larger one comes out, or a sentence why not."""

import threading

import pytest
import uvicorn
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from tests.browser import browser
from tests.conftest import scene
from tests.serving.conftest import InProcess, free_port


@pytest.fixture(scope="module")
def page(server):
    with browser() as driver:
        driver.get(server.url)
        yield driver


def at(page, name: str):
    return page.find_element(By.ID, name)


def wait(page, condition, seconds: float = 60):
    WebDriverWait(page, seconds).until(lambda _: condition())


def give(page, path) -> None:
    at(page, "file").send_keys(str(path))


def test_a_chosen_picture_comes_back_larger(page, tmp_path):
    picture = tmp_path / "holiday.png"
    Image.fromarray(scene(1, 32)).save(picture)
    wait(page, lambda: "bundle" in at(page, "model").text)
    give(page, picture)
    wait(page, lambda: "128 × 128" in at(page, "size").text)
    at(page, "go").click()
    wait(page, lambda: at(page, "made").text == "128 × 128 pixels")
    wait(page, lambda: at(page, "after").get_property("naturalWidth") == 128)
    wait(page, lambda: at(page, "before").get_property("naturalWidth") == 32)
    assert at(page, "save").get_attribute("download") == "holiday-x4.png"


def test_the_keyboard_alone_does_it_all(page, tmp_path):
    page.refresh()
    picture = tmp_path / "keys.png"
    Image.fromarray(scene(2, 32)).save(picture)
    give(page, picture)
    wait(page, lambda: page.switch_to.active_element.get_attribute("id") == "go")
    radio = page.find_element(By.CSS_SELECTOR, "input[value='4']")
    radio.send_keys(Keys.ARROW_LEFT)
    assert page.switch_to.active_element.get_attribute("value") == "2"
    page.switch_to.active_element.send_keys(Keys.ENTER)
    wait(page, lambda: at(page, "made").text == "64 × 64 pixels")
    wait(page, lambda: page.switch_to.active_element.get_attribute("id") == "slide")
    page.switch_to.active_element.send_keys(Keys.HOME)
    assert "100%" in at(page, "before").value_of_css_property("clip-path")


def test_a_text_file_is_refused_with_the_services_sentence(page, tmp_path):
    fake = tmp_path / "fake.png"
    fake.write_text("this is no picture")
    give(page, fake)
    wait(page, lambda: at(page, "go").is_enabled())
    at(page, "go").click()
    wait(page, lambda: "is not a" in at(page, "error").text)
    assert at(page, "error").text.endswith(".")
    assert not at(page, "result").is_displayed()


def test_work_can_be_stopped(page, tmp_path):
    picture = tmp_path / "long.png"
    Image.fromarray(scene(3, 500)).save(picture)
    give(page, picture)
    wait(page, lambda: "2,000 × 2,000" in at(page, "size").text or at(page, "go").is_enabled())
    at(page, "go").click()
    wait(page, lambda: at(page, "stop").is_displayed())
    at(page, "stop").click()
    wait(page, lambda: not at(page, "work").is_displayed(), 20)
    wait(page, lambda: at(page, "go").is_enabled())
    assert not at(page, "error").is_displayed()


def test_on_a_phone_nothing_is_wider_than_the_screen(page):
    page.set_window_size(500, 900)  # Chromium's narrowest window
    wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.execute_script(wide) <= 0


def test_without_jobs_the_page_waits_for_the_answer(page, bundle, tmp_path):
    service = InProcess(bundle, tmp_path / "state", max_jobs=0)
    port = free_port()
    web = uvicorn.Server(uvicorn.Config(service.client.app, port=port, log_level="error"))
    thread = threading.Thread(target=web.run, daemon=True)
    thread.start()
    picture = tmp_path / "plain.png"
    Image.fromarray(scene(4, 32)).save(picture)
    try:
        wait(page, lambda: web.started)
        before = page.current_url
        page.get(f"http://127.0.0.1:{port}")
        wait(page, lambda: "bundle" in at(page, "model").text)
        give(page, picture)
        wait(page, lambda: "128 × 128" in at(page, "size").text)
        at(page, "go").click()
        wait(page, lambda: at(page, "made").text == "128 × 128 pixels")
        page.get(before)
    finally:
        web.should_exit = True
        thread.join(20)
        service.close()


def test_nothing_is_asked_of_another_machine_and_no_script_fails(page):
    asked = page.execute_script(
        "return performance.getEntriesByType('resource').map(e => new URL(e.name).host)"
    )
    assert set(asked) <= {page.execute_script("return location.host"), ""}
    severe = [e for e in page.get_log("browser") if e["level"] == "SEVERE"]
    assert all("v1/jobs" in e["message"] for e in severe), severe
