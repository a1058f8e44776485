"""The columns of a user's own file: which are read, and which are not though they may have been meant."""

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from relope.extract.data.halves import whole
from relope.extract.data.rows import Row
from relope.words import first_of

COLUMNS = (
    *("question", "answer", "choices", "image", "images", "id", "split", "hint", "caption", "kind", "correct"),
    *("system", "messages"),
)

MEANT = {
    "question": "query prompt problem instruction question_text input text stem",
    "answer": "label target gold answers ground_truth groundtruth gt solution correct_answer answer_idx "
    "answer_index correct_choice correct_choice_idx answer_key expected output reference",
    "choices": "options choice option candidates alternatives answer_choices multiple_choices opts",
    "image": "img image_path image_file image_filename image_name image_url picture photo pic figure file filename "
    "file_name filepath file_path path png jpg",
    "images": "imgs image_paths image_files pictures photos pics figures",
    "id": "question_id questionid qid uid idx index sample_id example_id pid uuid",
    "split": "subset fold partition set",
    "hint": "context passage background lecture",
    "caption": "description image_caption alt alt_text",
    "kind": "category type question_type topic subject task",
}
"""Column → names by which others know it, separated by spaces."""

CHOICES = ("options", "Options", "Choices")
"""Names under which lists are read as ``choices`` where a row has no such column."""

_OF_NAME = {name: column for column, names in MEANT.items() for name in names.split()}
_IMAGES = {"image", "images"}
_SHOWN = 8


@dataclass
class Columns:
    """The columns that the rows of a data set have, noted as they pass by."""

    names: dict[str, None] = field(default_factory=dict)

    def seen(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Yield the same rows."""
        for row in rows:
            self.names.update(dict.fromkeys(whole(str(name)) for name in row.cells))
            yield row

    def notes(self) -> list[str]:
        """Return a line that names the columns that are not read, and what each may have been meant as."""
        unread = [name for name in self.names if name not in COLUMNS]
        if not unread:
            return []
        # What may have been meant comes first: a guess must not be lost behind a long list.
        taken = {*self.names, *(_IMAGES if _IMAGES & set(self.names) else ())}
        guesses = {name: guess for name in unread if (guess := guessed(name)) and guess not in taken}
        named = [f"{name} (did you mean {guess}?)" for name, guess in guesses.items()]
        named += [name for name in unread if name not in guesses]
        return [f"columns not read: {first_of(named, _SHOWN)}"]


def named_choices(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield rows with their options as ``choices``, also where another name stands above a list of them."""
    for row in rows:
        name = next((name for name in CHOICES if name in row.cells and _lists(row.cells[name])), "")
        if not name or "choices" in row.cells:
            yield row
            continue
        cells = {"choices" if key == name else key: value for key, value in row.cells.items()}
        yield replace(row, cells=cells)


def _lists(value: object) -> bool:
    """Return whether a cell holds options, or nothing."""
    nothing = value is None or value != value  # NaN, where pandas stored it
    return nothing or (isinstance(value, (list, tuple)) and all(isinstance(item, (str, int, float)) for item in value))


def guessed(name: str) -> str:
    """Return the column that a name may have been meant as, or ``""``."""
    plain = name.strip().lower().replace("-", "_").replace(" ", "_")
    if plain in COLUMNS or plain in _OF_NAME:
        return _OF_NAME.get(plain, plain)
    near = difflib.get_close_matches(plain, COLUMNS, n=1, cutoff=0.75)
    return near[0] if near else ""


def meant_by(column: str, names: Iterable[object]) -> str:
    """Return a question that names what may have been meant by a column that is missing, or ``""``."""
    near = [str(name) for name in names if guessed(str(name)) == column]
    return f"; is {near[0]!r} meant?" if near else ""
