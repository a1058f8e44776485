"""Write docs/report.png, the first screen of a demo's report: ``python recipes/report_picture.py runs/demo``.

Needs playwright and Chromium, as ``pytest -m browser`` does.
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

PICTURE = Path(__file__).parents[1] / "docs" / "report.png"
NAMES = ("chromium", "chromium-browser", "google-chrome")
WIDTH = 1120
COLOURS = 128


def main(folder: Path) -> None:
    """Photograph the page of a report down to its first figure."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=next(filter(None, map(shutil.which, NAMES)), None), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": WIDTH, "height": 900}, color_scheme="light")
        page.goto((folder / "report.html").absolute().as_uri())
        bottom = page.evaluate("document.querySelector('figure').getBoundingClientRect().bottom")
        shot = page.screenshot(full_page=True, clip={"x": 0, "y": 0, "width": WIDTH, "height": bottom + 8})
        browser.close()
    Image.open(io.BytesIO(shot)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
