"""What tests of the page do: find, wait, bring a picture."""

from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait


def at(page, name: str):
    return page.find_element(By.ID, name)


def wait(page, condition, seconds: float = 60):
    WebDriverWait(page, seconds).until(lambda _: condition())


def give(page, path) -> None:
    at(page, "file").send_keys(str(path))
