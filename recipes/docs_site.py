"""Gather the pages of the site in build/pages, which mkdocs.yml names: docs, README and more, and the made reference.

    python recipes/docs_site.py             # then: zensical build --strict
    python recipes/docs_site.py --finish    # after it: llms.txt, and each page's Markdown beside it

A link that leads out of docs/ leads to a copy of that file; one that leads nowhere stops this.
"""

import re
import shutil
import sys
from pathlib import Path
from posixpath import normpath, relpath
from urllib.parse import unquote

import reference

ROOT = Path(__file__).parents[1]
PAGES, SITE = ROOT / "build" / "pages", ROOT / "build" / "site"
MADE = {"commands": reference.commands, "python": reference.python, "settings": reference.settings}
PROJECT = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
SHIM, FETCHED = "from_disk.js", "https://unpkg.com/iframe-worker/shim"
"""What lets the search run from disk, and what Zensical would fetch for that on each visit."""

LINK = re.compile(r"(?<=\]\()([^)#\s]+)((?:#[^)\s]*)?)(?=\))")


def sources() -> dict[str, str]:
    """Return file of the repository → page of the site."""
    docs = sorted((ROOT / "docs").rglob("*.md"))
    return {**PROJECT, **{(f := path.relative_to(ROOT).as_posix()): f.removeprefix("docs/") for path in docs}}


def rewritten(text: str, source: str, pages: dict[str, str], files: set[str]) -> str:
    """Return a page with its links as they are on the site.

    Args:
        text: of the page.
        source: file that it comes from.
        pages: as `sources`.
        files: gets what else is linked to.

    Raises:
        SystemExit: a link leads nowhere.
    """

    def target(match: re.Match[str]) -> str:
        link, anchor = match.groups()
        if re.match(r"[a-z]+:", link):
            return f"{link}{anchor}"
        path = (ROOT / source).parent.joinpath(link).resolve()
        if not path.is_file() or not path.is_relative_to(ROOT):
            raise SystemExit(f"{source}: a link leads nowhere: {link}")
        name = path.relative_to(ROOT).as_posix()
        if name not in pages:
            files.add(name)
        there = pages.get(name, f"files/{name}")
        return f"{relpath(there, Path(pages[source]).parent.as_posix() or '.')}{anchor}"

    # Code keeps its brackets.
    parts = re.split(r"(^```.*?^```$|`[^`\n]+`)", text, flags=re.DOTALL | re.MULTILINE)
    return "".join(part if number % 2 else LINK.sub(target, part) for number, part in enumerate(parts))


def gather(pages_at: Path = PAGES) -> None:
    """Write every page, and the files that they link to, anew."""
    shutil.rmtree(pages_at, ignore_errors=True)
    pages, files = sources(), set[str]()
    for source, page in pages.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        write(pages_at / page, rewritten(text, source, pages, files))
    for name in sorted(files):
        (pages_at / "files" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, pages_at / "files" / name)
    for name, made in MADE.items():
        write(pages_at / "reference" / f"{name}.md", made())


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def finish(pages_at: Path = PAGES, site: Path = SITE) -> None:
    """Put each page's Markdown beside it, and llms.txt, which names all of them (https://llmstxt.org)."""
    lines = [
        "# relope\n",
        "> Routers that read a small multimodal LLM's hidden states: train, evaluate, share, serve.\n",
    ]
    for path in sorted(pages_at.rglob("*.md")):
        name = path.relative_to(pages_at).as_posix()
        if name.startswith("files/"):
            continue
        shutil.copyfile(path, site / name)
        title = re.search(r"^# (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        lines.append(f"- [{title[1] if title else name}]({name})")
    write(site / "llms.txt", "\n".join(lines) + "\n")
    shutil.copyfile(ROOT / "recipes" / SHIM, site / "assets" / SHIM)
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8").replace(
            FETCHED, "../" * len(path.relative_to(site).parts[1:]) + f"assets/{SHIM}"
        )
        if re.search(r"<(?:script|link|img)[^>]+(?:src|href)=\"?https?:", text):
            raise SystemExit(f"{path.name} fetches something from the network")
        write(path, text)
    if lost := lost_anchors(site):
        raise SystemExit("links to headings that are not there: " + ", ".join(lost))


def lost_anchors(site: Path) -> list[str]:
    """Return page and link of every link to a place in a page that has no such place."""
    texts = {path.relative_to(site).as_posix(): path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    ids = {name: set(re.findall(r'\sid="?([^"\s>]+)', text)) for name, text in texts.items()}
    lost = []
    for name, text in texts.items():
        for link, anchor in re.findall(r'\shref="?([^"#\s>:]*)#([^"\s>]+)', text):
            there = normpath(f"{Path(name).parent.as_posix()}/{link}") if link else name
            if there in ids and unquote(anchor) not in ids[there]:
                lost.append(f"{name}: {link}#{anchor}")
    return lost


if __name__ == "__main__":
    finish() if "--finish" in sys.argv else gather()
