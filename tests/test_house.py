"""docs/architecture.md shows the folders as they are, and names only files that are there."""

import ast
import re
import runpy
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_the_tree_is_what_the_folders_say():
    assert runpy.run_path(str(ROOT / "recipes" / "house.py"))["page"]() == PAGE, "python recipes/house.py writes it"


def test_every_file_that_the_map_names_is_there():
    names = re.findall(r"`((?:relope/)?[a-z_*/]+(?:\.py|\.yaml|/))`", PAGE)
    assert len(names) > 40
    for name in names:
        base = ROOT if name.startswith(("relope/", "tests/", "recipes/", "pipelines")) else ROOT / "relope"
        assert list(base.glob(name.rstrip("/"))), name


def test_the_map_answers_twelve_changes():
    assert PAGE.split("## Where do I change")[1].count("\n| ") >= 12 + 1


EMPTY_NAMES = {"found", "one", "place", "places", "stuff", "thing", "things"}
"""They say that there is something, and not what it is."""


def test_no_name_is_empty():
    for file in sorted((ROOT / "relope").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            bound = node.arg if isinstance(node, ast.arg) else None
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                bound = node.id
            assert bound not in EMPTY_NAMES, f"{file}:{node.lineno}: {bound}"
