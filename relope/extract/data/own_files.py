"""A user's own questions: a file or a folder whose rows have ``question``, ``answer`` and more.

What a row of the wrong shape says names the row and the column. A row that is only unusable (an
empty question, an answer that is no option, an image that is not there) becomes a sample with a
flaw, which extraction skips and counts.
"""

import base64
import binascii
import contextlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from relope.errors import InvalidInputError, NotFoundError
from relope.extract.data.answers import AnswerColumn, AnswerIs
from relope.extract.data.bounded import IMAGE_BYTES, read_bounded
from relope.extract.data.columns import COLUMNS, Columns, meant_by, named_choices
from relope.extract.data.conversations import Conversation, conversation, system_of
from relope.extract.data.dataset import DataSet
from relope.extract.data.flaws import input_digest
from relope.extract.data.groups import connected, in_shares
from relope.extract.data.halves import TORN, half_in, whole
from relope.extract.data.images import lazy_image
from relope.extract.data.labels import ALLOWED, LABEL, label_in, unlabelled
from relope.extract.data.rows import ALLOW_OUTSIDE, Row, as_list, read_rows
from relope.extract.data.splits import ALIASES, SplitNames, split_counts
from relope.extract.data.vlmevalkit import is_vlmevalkit, vlmevalkit_rows
from relope.provenance import digest
from relope.types import LETTERS, OWN, LazyImage, Sample
from relope.words import counted

TEXTS = ("question", "answer", "choices", "id", "split", "hint", "caption", "kind", "system", "messages")
"""Columns that hold text, or lists or mappings of texts."""

_ASKING = {"question", "messages"}
"""Columns of which a row needs one; a row that lacks the one of the others is as one where it is empty."""


def looks_like_path(name: str) -> bool:
    """Return whether a name that is no data set's is meant as a file or a folder: one with an ending is."""
    return Path(name).suffix[1:].isalpha() or Path(name).exists() or "/" in name


def open_own(path: Path, name: str, answer_is: AnswerIs | None = None, *, allow_outside: bool = False) -> DataSet:
    """Return a user's file or folder as a data set of a name.

    Its identity is its name and a digest of all that it holds, whatever file format or order of rows that is in.

    Args:
        path: of the file or folder.
        name: what the data set is called.
        answer_is: what every answer to a question with choices is; None = what fits.
        allow_outside: whether images may lie outside the folder of the data set.

    Raises:
        NotFoundError: there is no such file.
        InvalidInputError: a row or a column is wrong; both are named.
    """
    columns, names, reading = Columns(), SplitNames(), {"answer_is": answer_is, "allow_outside": allow_outside}
    lettered = is_vlmevalkit(path)
    read = vlmevalkit_rows(path, allow_outside) if lettered else read_rows(path, allow_outside)
    answers = AnswerColumn(answer_is or ("letter" if lettered else None))
    samples, shares = _samples(columns.seen(named_choices(read)), name, answers, names)
    if not samples:
        raise InvalidInputError(f"{path} has no rows; each needs at least a question")
    counts = split_counts(samples)
    return DataSet(
        name=name,
        splits=tuple(counts),
        load=lambda split, limit: [sample for sample in samples if sample.split == split][:limit],
        identity={"source": OWN, "name": name, "digest": _digest(samples, shares)},
        source=str(path.resolve()),
        aliases={old: (new,) for old, new in ALIASES.items() if new in counts and old not in counts},
        notes=(*columns.notes(), *_pictured(samples), *names.notes(samples, shares)),
        shares=shares,
        reading={key: value for key, value in reading.items() if value},
        counts=counts,
    )


def _pictured(samples: Sequence[Sample]) -> list[str]:
    n = sum(bool(sample.images) for sample in samples)
    return [f"{n} of {len(samples)} samples have an image"] if n < len(samples) else []


def _digest(samples: Iterable[Sample], shares: bool) -> str:
    """Return the sha256 (hex) of samples in any order; a split that we cut follows from the rest."""
    return digest(sorted([sample.id, "" if shares else sample.split, input_digest(sample)] for sample in samples))


def _samples(rows: Iterable[Row], name: str, answers: AnswerColumn, splits: SplitNames) -> tuple[list[Sample], bool]:
    """Return the samples of rows, in groups by image, and whether their splits are shares that we cut."""
    first: dict[str, str] = {}
    samples: list[Sample] = []
    lacking: dict[str, Row] = {}
    bare: list[Row] = []
    answered = set[str]()
    for row in rows:
        if not _ASKING & set(row.cells):
            bare.append(row)
            if _calls_otherwise("question", row):
                raise _missing(row, "question")
        sample = _sample(row, name, answers, splits)
        if sample.id in first and len(bare) <= len(samples):
            what = f"have the same id {sample.id!r}" if row.cells.get("id") is not None else "are the same question"
            raise InvalidInputError(f"{first[sample.id]} and {row.where} {what} (column 'id'); ids must differ")
        first[sample.id] = row.where
        samples.append(sample)
        if _answer(row) not in (None, ""):
            answered.add(sample.split)
        elif _calls_otherwise("answer", row) and LABEL not in row.cells:
            lacking.setdefault(sample.split, row)
    if bare and len(bare) == len(samples):
        raise _missing(bare[0], "question")
    answers.check()
    for split in sorted(answered & set(lacking)):
        raise _missing(lacking[split], "answer")
    samples = unlabelled(samples, answered)
    unsplit = [first[sample.id] for sample in samples if not sample.split]
    if unsplit and len(unsplit) < len(samples):
        raise InvalidInputError(f"{unsplit[0]} has no split (column 'split') but others have; give it to all or none")
    return (in_shares(samples), True) if unsplit else (connected(samples), False)


def _sample(row: Row, name: str, column: AnswerColumn, splits: SplitNames) -> Sample:
    row, torn = _mended(row)
    said = conversation(row) or Conversation(system_of(row), question=_question(row))
    choices = _choices(row)
    answer, answers, flaw = _answer(row), tuple[str, ...](), dict[str, str]()
    if answer is not None:
        answers, flaw = column.read(answer, choices, row.where, typed=row.typed)
    try:
        label = label_in(row.cells)
    except ValueError as error:
        raise _wrong(row, LABEL, ALLOWED) from error
    images, hint, caption = images_of(row), _text(row, "hint"), _text(row, "caption")
    if said.flaw or said.n_shown not in (None, len(images)):
        flaw = {"flaw": said.flaw or f"its messages show {counted(said.n_shown or 0, 'image')}, it has {len(images)}"}
    given = row.cells.get("id")
    if given is not None and (isinstance(given, bool) or not isinstance(given, (str, int)) or given == ""):
        raise _wrong(row, "id", "text or a whole number")
    made = Sample(
        id="" if given is None else str(given),
        dataset=name,
        split=splits.meant(_text(row, "split") or row.split),
        question=said.question,
        answers=answers,
        choices=choices,
        images=images,
        hint=hint,
        system=said.system,
        earlier=said.earlier,
        meta={**flaw, **torn, **label, "kind": _text(row, "kind")},
    )
    return replace(made, id=made.id or input_digest(made)[:16], caption=caption)


def _mended(row: Row) -> tuple[Row, dict[str, str]]:
    """Return a row without what pandas and torn text left in its cells, and what is wrong with it because of that."""
    cells = {name: _unpanda(cell) for name, cell in row.cells.items()}
    if isinstance(cells.get("messages"), str):  # JSON in a cell of text hides halves of characters in escapes
        with contextlib.suppress(ValueError, RecursionError):
            cells["messages"] = json.loads(cells["messages"])
    torn = {name: half for name in TEXTS if (half := half_in(cells.get(name)))}
    if not torn:
        return replace(row, cells=cells), {}
    if name := next((name for name in ("id", "split") if name in torn), ""):
        raise _wrong(row, name, "whole text")
    name, half = next(iter(torn.items()))
    said = f"column {name!r} holds {half}, half of a character"
    return replace(row, cells=cells | {name: whole(cells[name]) for name in torn}), {TORN: said}


def _unpanda(cell: Any) -> Any:
    """Return a cell as it was before pandas stored it: no value as NaN, whole numbers beside one as 7.0."""
    if not isinstance(cell, float) or math.isinf(cell):
        return cell
    return None if math.isnan(cell) else int(cell) if cell.is_integer() else cell


def _wrong(row: Row, column: str, allowed: str, hint: str = "") -> InvalidInputError:
    value = row.cells.get(column)
    return InvalidInputError(
        f"column {column!r} in {row.where} holds {type(value).__name__} {str(value)[:60]!r}; it must be {allowed}",
        hint=hint,
    )


def _question(row: Row) -> str:
    question = row.cells.get("question")
    if question is not None and not isinstance(question, str):
        raise _wrong(row, "question", "text")
    return question or ""


def _missing(row: Row, column: str) -> NotFoundError:
    return NotFoundError(
        f"column {column!r} is missing in {row.where} (it has: {', '.join(map(str, row.cells)) or 'nothing'})"
        f"{meant_by(column, row.cells)}",
        hint=f"a row needs question, answer to learn from it, and may have {', '.join(COLUMNS[2:])}",
    )


def _calls_otherwise(column: str, row: Row) -> bool:
    """Return whether a row lacks a column and has one that may be meant by it; without that, it is left empty."""
    return column not in row.cells and bool(meant_by(column, row.cells))


def _answer(row: Row) -> Any:
    answer = row.cells.get("answer")
    held = answer if isinstance(answer, (list, tuple)) else [answer]
    for item in held:
        if item is not None and (isinstance(item, bool) or not isinstance(item, (str, int, float))):
            raise _wrong(row, "answer", "text, a number, or a list of them")
    return None if any(item is None for item in held) or not held else answer


def _choices(row: Row) -> tuple[str, ...]:
    choices = row.cells.get("choices")
    if choices is None or choices == []:
        return ()
    plain = isinstance(choices, (list, tuple)) and all(
        isinstance(choice, (str, int, float)) and not isinstance(choice, bool) for choice in choices
    )
    if not plain or not 2 <= len(choices) <= len(LETTERS):
        raise _wrong(row, "choices", f"a list of 2–{len(LETTERS)} texts or numbers", as_list(choices))
    return tuple(str(_unpanda(choice)) for choice in choices)


def _text(row: Row, column: str) -> str:
    value = row.cells.get(column)
    if value is not None and not isinstance(value, str):
        raise _wrong(row, column, "text")
    return value or ""


def images_of(row: Row) -> tuple[LazyImage, ...]:
    """Return the images of a row: of its cell ``image``, or those of ``images``.

    Raises:
        InvalidInputError: a cell is of the wrong shape, or names an image outside the data set's folder.
    """
    image, images = row.cells.get("image"), row.cells.get("images")
    if isinstance(image, dict) and not any(value is not None for value in image.values()):
        image = None  # how tables of the datasets library say that there is none
    if image not in (None, "") and images:
        raise InvalidInputError(f"{row.where} has both 'image' and 'images'; give one of them")
    if images:
        if not isinstance(images, (list, tuple)):
            raise _wrong(row, "images", "a list")
        return tuple(_image(row, "images", index) for index in range(len(images)))
    return () if image in (None, "") else (_image(row, "image", None),)


def _image(row: Row, column: str, index: int | None) -> LazyImage:
    held = row.cells[column] if index is None else row.cells[column][index]
    return lazy_image(_reader(row, column, index), held if isinstance(held, str) else "")


def _reader(row: Row, column: str, index: int | None) -> Callable[[], bytes]:
    """Return what reads the encoded bytes of an image; its shape is checked at once."""
    held = row.cells[column]
    _check_shape(row, column, held if index is None else held[index])
    bare = replace(row, cells={})  # a table's bytes are read again, not kept

    def read() -> bytes:
        held = bare.again(column)
        return _encoded(bare, column, held if index is None else held[index])

    return read


def _check_shape(row: Row, column: str, value: Any) -> None:
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    allowed = "a path, a data URI, bytes, or {bytes, path}"
    if not isinstance(value, (str, bytes)):
        raise _wrong(row, column, allowed)
    if isinstance(value, str) and value.startswith(("http://", "https://")):
        raise InvalidInputError(f"column {column!r} in {row.where} is a web address; download it and give its path")
    if isinstance(value, str) and not value.startswith("data:"):
        _place(row, column, value)


def _place(row: Row, column: str, text: str) -> Path:
    """Return where an image lies.

    Raises:
        InvalidInputError: outside the data set's folder, once links are followed: a stranger's file must not
            bring others of this machine into a store and its reports.
    """
    path = row.folder / text
    try:
        is_inside = row.root is None or path.resolve().is_relative_to(row.root)
    except (OSError, ValueError, RuntimeError):
        return path  # what cannot be followed cannot be read either
    if not is_inside:
        raise InvalidInputError(
            f"column {column!r} in {row.where} names {text[:80]!r}, which lies outside {row.root}", hint=ALLOW_OUTSIDE
        )
    return path


def _encoded(row: Row, column: str, value: Any) -> bytes:
    if isinstance(value, dict):
        value = value.get("bytes") if value.get("bytes") is not None else value.get("path")
    if isinstance(value, bytes):
        if len(value) > IMAGE_BYTES:
            raise InvalidInputError(f"the image has {len(value):,} bytes, more than {IMAGE_BYTES:,}")
        return bytes(value)
    text = str(value)
    if not text.startswith("data:"):
        path = _place(row, column, text)
        if "." not in text and not path.exists():  # VLMEvalKit: the index of a row that is not there, or cut base64
            raise InvalidInputError(f"column {column!r} in {row.where} holds {text[:40]!r}: no file, and no picture")
        return read_bounded(path, IMAGE_BYTES)
    head, comma, body = text.partition(",")
    try:
        if not comma or not head.endswith(";base64"):
            raise ValueError("it must begin with data:image/…;base64,")
        return base64.b64decode(body, validate=True)
    except (ValueError, binascii.Error) as error:
        raise InvalidInputError(f"column {column!r} in {row.where} is no data URI: {error}") from error
