"""What tests of the page do: find, wait, bring a picture."""

from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait


def at(page, name: str):
    return page.find_element(By.ID, name)


def wait(page, condition, seconds: float = 60):
    WebDriverWait(page, seconds).until(lambda _: condition())


def open_with(page, path, pixels) -> None:
    """The page anew, with these pixels as its picture, ready to enlarge it."""
    page.refresh()
    wait(page, lambda: "bundle" in at(page, "model").text)
    Image.fromarray(pixels).save(path)
    give(page, path)
    wait(page, lambda: at(page, "go").is_enabled())


def give(page, path) -> None:
    at(page, "file").send_keys(str(path))
