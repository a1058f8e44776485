"""Pages in headless Chromium: what a reader would stumble over, found by measuring what was laid out."""

import shutil
from dataclasses import dataclass
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")

FAULTS = r"""
() => {
  const faults = [];
  const shown = (node) => node.checkVisibility({visibilityProperty: true, opacityProperty: true});
  const said = (node) => node.textContent.trim().slice(0, 40);
  const boxes = (svg) => [...svg.querySelectorAll("text")].filter((text) => shown(text) && said(text))
    .map((text) => [said(text), text.getBoundingClientRect()]);
  const inset = 1.5;
  for (const svg of document.querySelectorAll("svg")) {
    if (!shown(svg)) continue;
    const frame = svg.getBoundingClientRect(), labels = boxes(svg);
    labels.forEach(([name, a], index) => {
      if (a.left < frame.left - 1 || a.right > frame.right + 1 || a.top < frame.top - 1 || a.bottom > frame.bottom + 1)
        faults.push(`label cut by its figure: ${name}`);
      for (const [other, b] of labels.slice(index + 1)) {
        const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (wide > inset && high > 2 * inset) faults.push(`labels overlap: ${name} | ${other}`);
      }
    });
    for (const drawn of svg.querySelectorAll("[clip-path]")) {
      const id = drawn.getAttribute("clip-path").match(/#([^)"]+)/)[1];
      const clip = svg.querySelector(`[id="${id}"] rect`);
      if (!clip) continue;
      const inner = drawn.getBBox(), [x, y, w, h] = ["x", "y", "width", "height"].map((key) => clip[key].baseVal.value);
      if (inner.x < x - 1 || inner.y < y - 1 || inner.x + inner.width > x + w + 1 || inner.y + inner.height > y + h + 1)
        faults.push(`drawn beyond the plot: ${drawn.id || drawn.parentNode.id} in ${svg.getAttribute("aria-label")}`);
    }
  }
  const cue = (box) => box.matches("[tabindex]") && box.previousElementSibling?.matches(".sideways") &&
    shown(box.previousElementSibling);
  for (const box of document.querySelectorAll("body *")) {
    if (box instanceof SVGElement || !shown(box) || box.scrollWidth <= box.clientWidth + 1) continue;
    const style = getComputedStyle(box);
    if (style.display !== "inline" && style.overflowX !== "visible" && style.textOverflow !== "ellipsis" && !cue(box))
      faults.push(`cut by its box, without a cue: ${box.className || box.tagName}: ${said(box)}`);
  }
  const page = document.documentElement;
  if (page.scrollWidth > page.clientWidth) {
    const wide = [...document.querySelectorAll("body *")].filter((box) => shown(box) && !box.closest(".scroll, .wide"))
      .filter((box) => box.getBoundingClientRect().right > page.clientWidth + 1)
      .map((box) => box.className || box.tagName);
    faults.push(`the page scrolls sideways: ${page.scrollWidth} of ${page.clientWidth} pixels (${wide.slice(0, 4)})`);
  }
  return [...new Set(faults)];
}
"""


@dataclass(frozen=True)
class View:
    """How a page is looked at: pixels across, and ``light``, ``dark`` or ``print``."""

    width: int
    medium: str

    def __str__(self) -> str:
        return f"{self.width}-{self.medium}"


VIEWS = [View(width, medium) for width in (1180, 400) for medium in ("light", "dark")] + [View(1180, "print")]


def executable() -> str:
    """Return where Chromium is."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    assert path, f"none of {', '.join(NAMES)} is installed; on Debian: apt-get install chromium"
    return path


def faults_of(browser, path: Path, view: View, picture: Path | None = None) -> list[str]:
    """Return what is wrong with a page in a view: overlaps, cuts, sideways scrolling, errors, anything fetched."""
    printed = view.medium == "print"
    context = browser.new_context(
        viewport={"width": view.width, "height": 900}, color_scheme="light" if printed else view.medium, offline=True
    )
    try:
        page, told = context.new_page(), []
        page.on("console", lambda message: told.append(f"console: {message.text}") if message.type == "error" else None)
        page.on("pageerror", lambda error: told.append(f"error: {error}"))
        page.on("requestfailed", lambda request: told.append(f"not loaded: {request.url[:80]}"))
        page.on(
            "request",
            lambda request: (
                None if request.url.startswith(("file:", "data:")) else told.append(f"fetched: {request.url}")
            ),
        )
        page.goto(path.absolute().as_uri())
        page.emulate_media(media="print" if printed else "screen")
        found = page.evaluate(FAULTS)
        if picture is not None:
            page.screenshot(path=picture, full_page=True)
        return [*told, *found]
    finally:
        context.close()
