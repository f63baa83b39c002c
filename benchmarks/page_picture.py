"""A picture of the page: the shipped model's service in a real browser, after one enlargement.

    python -m benchmarks.page_picture [--model models/small] [--photo data/test/...]

On a desktop's and on a telephone's screen. The middle of a test photograph, reduced by 4, goes in
through the file field. Writes docs/page.webp.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from tests.browser import browser
from tests.serving.conftest import Server
from tests.serving.pages import at, give, wait
from tudsr.profile import PROJECT_ROOT

SCREENS = ((1280, 1000), (360, 1000))
SIDE_PX, REDUCED, GAP_PX = 1024, 4, 16


def main() -> None:
    """Take both pictures and write them side by side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="models/small", help="a bundle's folder")
    parser.add_argument(
        "--photo", type=Path, default=PROJECT_ROOT / "data/test/bud_singaporean-cityscape.webp"
    )
    given = parser.parse_args()
    command = [sys.executable, "-m", "tudsr", "serve", "--model", given.model]
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / f"{given.photo.stem}.png"
        _middle(given.photo).save(small)
        state = str(Path(folder) / "state")
        with Server(command, Path(folder) / "log", TUDSR_SERVE_STATE=state) as server:
            shots = [_shot(server.url, small, *screen) for screen in SCREENS]
    sheet = Image.new("RGB", (sum(s.width for s in shots) + GAP_PX, shots[0].height), "white")
    sheet.paste(shots[0], (0, 0))
    sheet.paste(shots[1], (shots[0].width + GAP_PX, 0))
    out = PROJECT_ROOT / "docs" / "page.webp"
    sheet.save(out, quality=85)
    print(out)


def _middle(photo: Path) -> Image.Image:
    with Image.open(photo) as whole:
        left, top = ((n - SIDE_PX) // 2 for n in whole.size)
        middle = whole.convert("RGB").crop((left, top, left + SIDE_PX, top + SIDE_PX))
    side = SIDE_PX // REDUCED
    return middle.resize((side, side), Image.Resampling.BICUBIC)


def _shot(url: str, picture: Path, width: int, height: int) -> Image.Image:
    with browser(width, height) as page:
        page.get(url)
        _sized(page, width, height)
        give(page, picture)
        at(page, "go").click()
        wait(page, lambda: at(page, "made").text.endswith("pixels"), 300)
        wait(page, lambda: at(page, "after").get_property("naturalWidth") == SIDE_PX)
        return Image.open(io.BytesIO(page.get_screenshot_as_png())).convert("RGB")


def _sized(page: Any, width: int, height: int) -> None:
    """The page itself so large, whatever the window's frame takes."""
    how = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", how)


if __name__ == "__main__":
    main()
