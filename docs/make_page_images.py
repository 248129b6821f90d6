"""Pictures of pages for the documentation, as a browser shows them: `pip install -e ".[browser]"` and any Chromium.

Usage: python docs/make_page_images.py NAME=REPORT.html[#PLACE][,dark] ...

Each page is written to docs/images/page-NAME.webp; PLACE is the id or the CSS class of what stands at the top.
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from PIL import Image as Picture
from playwright.sync_api import sync_playwright

FOLDER = Path(__file__).parent / "images"
WIDTH, HEIGHT = 1280, 880
SHOWN = 1000
"""Pixels across a picture."""


def main(pages: list[str]) -> None:
    """Draw every page that is named."""
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        for page in pages:
            name, _, rest = page.partition("=")
            address, _, scheme = rest.partition(",")
            path, _, place = address.partition("#")
            context = browser.new_context(
                viewport={"width": WIDTH, "height": HEIGHT},
                color_scheme="dark" if scheme == "dark" else "light",
                reduced_motion="reduce",
            )
            shown = context.new_page()
            shown.goto(Path(path).resolve().as_uri())
            if place:
                shown.evaluate("place => document.querySelector(`#${place}, .${place}`).scrollIntoView()", place)
            _save(shown.screenshot(), FOLDER / f"page-{name}.webp")
        browser.close()


def _save(png: bytes, path: Path) -> None:
    image = Picture.open(io.BytesIO(png)).convert("RGB")
    image.thumbnail((SHOWN, SHOWN))
    image.save(path, "WEBP", quality=80, method=6)
    print(path, path.stat().st_size)


if __name__ == "__main__":
    main(sys.argv[1:])
