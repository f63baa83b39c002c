"""A headless Chromium for the tests that look at pages as a person does."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


def missing() -> bool:
    """Whether there is no Chromium here; .ci/run installs one and forbids skipping."""
    found = shutil.which("chromium") and shutil.which("chromedriver")
    if not found and os.environ.get("TUDSR_NEED_BROWSER"):
        pytest.fail("no chromium or chromedriver, and skipping is forbidden here")
    return not found


@contextmanager
def browser(width: int = 1280, height: int = 900) -> Iterator:
    """A WebDriver of headless Chromium that reaches no other machine."""
    if missing():
        pytest.skip("no chromium: apt install chromium chromium-driver runs this test")
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{argument}")
    options.add_argument(f"--window-size={width},{height}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options, Service(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()
