"""Write the tree of docs/architecture.md from the folders: what each is for, and its files.

``python recipes/house.py`` writes it; a test fails when the page is not what the folders say.
"""

import ast
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- tree -->\n```text\n", "```\n<!-- /tree -->"


def purpose(folder: Path) -> str:
    """Return the first line of a package's docstring."""
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    return text.splitlines()[0]


def entry(folder: Path, depth: int) -> str:
    """Return the lines of a folder: its purpose, its files, then its sub-folders."""
    inside = [path for path in sorted(folder.iterdir()) if (path / "__init__.py").is_file()]
    files = " ".join(path.stem for path in sorted(folder.glob("*.py")) if path.stem != "__init__")
    head = f"{'  ' * depth}{folder.name}/".ljust(22)
    lines = textwrap.wrap(purpose(folder), 92, initial_indent=head, subsequent_indent=" " * 22)
    lines += textwrap.wrap(files, 114, initial_indent="  " * depth + "    ", subsequent_indent="  " * depth + "    ")
    return "\n".join([*lines, *(entry(path, depth + 1) for path in inside)])


def page() -> str:
    """Return the whole page with its tree anew."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}{entry(ROOT / 'relope', 0)}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
