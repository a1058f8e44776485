"""Data sets as VLMEvalKit keeps them: a TSV file with base64 images and an option a column.

A row has ``index`` and ``question``; ``image`` holds base64, a list of such, or the index of the row whose image it
shares; ``A`` to ``Z`` are options, the answer is then a letter; ``hint``, ``split`` and ``category`` may be there.

Source: https://github.com/open-compass/VLMEvalKit vlmeval/dataset/image_base.py (``ImageBaseDataset.__init__``,
``dump_image``), vlmeval/dataset/image_mcq.py (``build_prompt``) and vlmeval/smp/misc.py (``toliststr``).
"""

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from relope.extract.data.rows import Row, read_rows
from relope.types import LETTERS

REFERENCE = 64
"""Characters of an image's cell at most that names another row: an image has more."""

_LIST_CHARACTERS = 64 << 20


def is_vlmevalkit(path: Path) -> bool:
    """Return whether a file is one, by its name and header."""
    if path.suffix != ".tsv" or not path.is_file():
        return False
    first = next(read_rows(path, allow_outside=True), None)
    return first is not None and {"index", "question"} <= set(first.cells) and "id" not in first.cells


def vlmevalkit_rows(path: Path, allow_outside: bool) -> Iterator[Row]:
    """Yield the rows of such a file in our own columns.

    Raises:
        InvalidInputError: the file is no TSV; the line is named.
    """

    def rows() -> Iterator[Row]:
        return read_rows(path, allow_outside)

    shared = _shared_images(rows)
    for row in rows():
        cells = _own_columns(row.cells, shared)
        yield replace(row, cells=cells, again=cells.get)


def _shared_images(rows: Callable[[], Iterator[Row]]) -> dict[str, str]:
    """Return index → image of the rows whose image others refer to; the images of the rest are not kept here."""
    cells = ((str(row.cells.get("index")), row.cells.get("image")) for row in rows())
    named = {str(image) for _, image in cells if image is not None and len(str(image)) <= REFERENCE}
    if not named:
        return {}
    pairs = ((str(row.cells.get("index")), row.cells.get("image")) for row in rows())
    return {
        index: image for index, image in pairs if index in named and isinstance(image, str) and len(image) > REFERENCE
    }


def _own_columns(cells: Mapping[str, Any], shared: Mapping[str, str]) -> dict[str, Any]:
    options = [letter for letter in LETTERS if letter in cells]
    taken = {"index", "image", *options}
    own = {name: value for name, value in cells.items() if name not in taken}
    own["id"] = cells["index"]
    if "category" in own and "kind" not in own:
        own["kind"] = own.pop("category")
    if choices := [cells[letter] for letter in options if cells[letter] is not None]:
        own["choices"] = choices
    return {**own, **_pictures(cells, shared)}


def _pictures(cells: Mapping[str, Any], shared: Mapping[str, str]) -> dict[str, Any]:
    """Return the columns of a row's images."""
    if "image" not in cells:
        return {}
    held = cells["image"]
    images = [_picture(item) for item in _listed(shared.get(held, held))] if isinstance(held, str) else []
    return {"images": images} if len(images) > 1 else {"image": images[0] if images else None}


def _listed(held: str) -> list[str]:
    """Return the images of a cell; a list of them is written as Python does."""
    if held.startswith("[") and held.endswith("]") and len(held) < _LIST_CHARACTERS:
        try:
            items = ast.literal_eval(held)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return [held]
        return [item for item in items if isinstance(item, str)]
    return [held]


def _picture(item: str) -> str:
    """Return base64 as a data URI; a path, or the index of a row that is not there, stays what it is."""
    return item if len(item) <= REFERENCE or item.startswith("data:") else f"data:image/jpeg;base64,{item}"
