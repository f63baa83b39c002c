"""The page by keyboard, by finger, by ear and on a narrow screen."""

import pytest
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.conftest import scene
from tests.serving.pages import at, give, open_with, wait


def _press(page, *keys: str) -> str:
    """Press keys together; the id, or name, of what has the focus then."""
    chain = ActionChains(page)
    for key in keys[:-1]:
        chain.key_down(key)
    chain.send_keys(keys[-1])
    for key in keys[:-1]:
        chain.key_up(key)
    chain.perform()
    return page.execute_script("const e = document.activeElement; return e.name || e.id")


def test_tab_walks_through_the_page_to_the_result_and_back(page, tmp_path):
    page.refresh()
    wait(page, lambda: at(page, "fidelity").is_displayed())
    picture = tmp_path / "walk.png"
    Image.fromarray(scene(7, 16)).save(picture)
    give(page, picture)
    wait(page, lambda: page.switch_to.active_element.get_attribute("id") == "go")
    back = [_press(page, Keys.SHIFT, Keys.TAB) for _ in range(4)]
    assert back == ["format", "fidelity", "scale", "file"]
    assert [_press(page, Keys.TAB) for _ in range(4)] == ["scale", "fidelity", "format", "go"]
    _press(page, Keys.ENTER)
    wait(page, lambda: page.switch_to.active_element.get_attribute("id") == "slide")
    assert at(page, "made").text == "64 × 64 pixels"
    back = [_press(page, Keys.SHIFT, Keys.TAB) for _ in range(3)]
    assert back == ["save", "zoom", "go"]
    focused = "return getComputedStyle(document.activeElement).outlineStyle"
    assert page.execute_script(focused) == "solid", "one sees where one is"
    assert [_press(page, Keys.TAB) for _ in range(3)] == ["zoom", "save", "slide"]


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


def test_a_screen_reader_hears_of_every_ten_percent_alone(page, tmp_path):
    open_with(page, tmp_path / "ear.png", scene(13, 16))
    page.execute_script("""
    const there = window.fetch, done = [1, 2, 3, 4, 11, 12, 100];  // percent, at first
    window.fetch = (path, how) => /jobs\\/[\\w-]+$/.test(path) && !how?.method && done.length
        ? Promise.resolve(Response.json({state: "running", progress: done.shift() / 100}))
        : there(path, how);
    window.heard = {state: [], aloud: []};
    for (const name in heard) new MutationObserver(() => {
        const text = document.getElementById(name).textContent;
        if (text) heard[name].push(text);
    }).observe(document.getElementById(name), {childList: true});
    """)
    at(page, "go").click()
    wait(page, lambda: "%" in at(page, "state").text)
    assert at(page, "bar").accessible_name == "how much of the picture is done"
    wait(page, lambda: at(page, "made").text == "64 × 64 pixels")
    heard = page.execute_script("return window.heard")
    assert len([text for text in heard["state"] if "%" in text]) >= 6
    assert [text for text in heard["aloud"] if "%" in text][:2] == [
        "Enlarging, 1 % done…",
        "Enlarging, 11 % done…",
    ]
    assert "Finishing…" in heard["aloud"], "the tiles are made, the result is not"
    assert heard["aloud"][-1] == "Done: 64\u00a0×\u00a064 pixels."
    live = page.find_elements(By.CSS_SELECTOR, "[aria-live], [role='status']")
    assert [each.get_attribute("id") for each in live] == ["aloud"]


@pytest.fixture
def phone(page):
    """The page on a screen of 360 x 740, touched by fingers."""
    shape = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", shape)
    page.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    page.refresh()
    yield page
    page.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def _scrolled(page) -> int:
    return page.execute_script("return document.getElementById('view').scrollLeft")


def _centre(page, what: str) -> list[float]:
    return page.execute_script(
        "const r = document.querySelector(arguments[0]).getBoundingClientRect();"
        "return [r.x + r.width / 2, r.y + r.height / 2]",
        what,
    )


def test_at_its_actual_size_keys_and_fingers_move_the_picture_and_the_handle_the_line(
    phone, tmp_path
):
    picture = tmp_path / "wide.png"
    Image.fromarray(scene(9, 60)).save(picture)
    page = phone
    page.find_element(By.CSS_SELECTOR, "input[value='8']").send_keys(Keys.SPACE)
    give(page, picture)
    wait(page, lambda: "480 × 480" in at(page, "size").text)
    at(page, "go").click()
    wait(page, lambda: at(page, "made").text == "480 × 480 pixels", 120)
    at(page, "zoom").click()
    page.execute_script("document.getElementById('view').scrollIntoView({behavior: 'instant'})")
    at(page, "view").send_keys(Keys.ARROW_RIGHT)
    wait(page, lambda: _scrolled(page) > 0)
    # Headless, a synthesised gesture scrolls no page at all: so what decides where a finger's goes.
    x, y = _centre(page, "#view")
    under = "return document.elementFromPoint(arguments[0], arguments[1]).id"
    assert page.execute_script(under, x + 100, y) in ("after", "before")
    assert at(page, "pair").value_of_css_property("touch-action") == "auto"
    clip, (x, y) = at(page, "before").value_of_css_property("clip-path"), _centre(page, "#line i")
    for kind, at_x in (("mousePressed", x), ("mouseMoved", x - 40), ("mouseReleased", x - 40)):
        press = {"type": kind, "x": at_x, "y": y, "button": "left", "clickCount": 1}
        page.execute_cdp_cmd("Input.dispatchMouseEvent", press)
    assert at(page, "before").value_of_css_property("clip-path") != clip


@pytest.mark.parametrize("shown", ["nothing", "a picture", "a result", "an error"])
def test_at_360_pixels_nothing_is_wider_than_the_screen(page, tmp_path, shown):
    phone = {"width": 360, "height": 740, "deviceScaleFactor": 3, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        page.refresh()
        wait(page, lambda: "bundle" in at(page, "model").text)
        _show(page, tmp_path, shown)
        assert page.execute_script("return [innerWidth, document.documentElement.clientWidth]") == [
            360,
            360,
        ], "something is wider than the screen"
        assert page.execute_script("return document.documentElement.scrollWidth") <= 360
        beyond = page.execute_script(
            "return [...document.querySelectorAll('body *')].filter(e => e.checkVisibility()"
            " && e.getBoundingClientRect().right > 360.5 && !e.closest('#view'))"
            ".map(e => e.id || e.tagName)"
        )
        assert beyond == []
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def _show(page, folder, what: str) -> None:
    """Bring the page there; the name is long, as those of phones' pictures are."""
    if what == "nothing":
        return
    picture = folder / f"{'IMG_20261128_' * 6}.png"
    Image.fromarray(scene(8, 20)).save(picture)
    if what == "an error":
        picture.write_text("this is no picture")
    give(page, picture)
    wait(page, lambda: at(page, "go").is_enabled())
    if what == "a picture":
        return
    at(page, "go").click()
    wait(page, lambda: at(page, "result" if what == "a result" else "error").is_displayed())
