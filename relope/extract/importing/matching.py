"""Which samples of a store records answer: by their id, else by what was asked; never by their place in a file."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from relope.asked import asked_column, asked_digest, differing_part, question_key
from relope.errors import InvalidInputError
from relope.extract.importing.record import Record

_SHOWN = 3


@dataclass(frozen=True)
class Matches:
    """What was matched.

    Attributes:
        rows: row of the store's samples → its record.
        by_id: how many by their id.
        by_question: how many by the digest of question and images.
        unmatched: records that no sample was found for, each with the reason.
    """

    rows: dict[int, Record]
    by_id: int
    by_question: int
    unmatched: list[tuple[Record, str]]

    def unmatched_text(self) -> str:
        """Return the first few records that nothing matches, with why; ``""`` where there is none."""
        named: dict[str, list[str]] = {}
        for record, reason in self.unmatched[:_SHOWN]:
            named.setdefault(reason, []).append(record.id or record.where)
        shown = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in named.items())
        rest = len(self.unmatched) - _SHOWN
        return f"{shown}; and {rest} more" if rest > 0 else shown


def match(records: Sequence[Record], samples: pl.DataFrame) -> Matches:
    """Find the samples that records of one model answer.

    An id alone is not believed where the record also tells what was asked, and that is something else.

    Args:
        records: with an answer or a verdict.
        samples: of the store that they are matched to.

    Raises:
        InvalidInputError: two records are of one sample.
    """
    index = _Index(samples)
    rows: dict[int, Record] = {}
    by_id, unmatched = 0, []
    for record in records:
        row, reason, is_by_id = index.row_of(record)
        if row is None:
            unmatched.append((record, reason))
            continue
        if other := rows.get(row):
            raise InvalidInputError(
                f"{other.where} and {record.where} both answer the sample {index.ids[row]!r}",
                hint="leave one of them out, or give files of one run",
            )
        rows[row] = record
        by_id += is_by_id
    return Matches(rows, by_id, len(rows) - by_id, unmatched)


class _Index:
    """The samples of a store by id and by what they ask."""

    def __init__(self, samples: pl.DataFrame) -> None:
        self.ids: list[str] = samples["id"].to_list()
        self.asked: list[str] = asked_column(samples).to_list()
        self.by_id = {name: row for row, name in enumerate(self.ids)}
        self.by_question: dict[str, list[int]] = {}
        for row, asked in enumerate(self.asked):
            if (key := question_key(asked)) is not None:
                self.by_question.setdefault(key, []).append(row)

    def row_of(self, record: Record) -> tuple[int | None, str, bool]:
        """Return the row that a record is of, or None and why; and whether its id says so."""
        placed = record.numbered and (record.question is None or record.images is None)
        row = None if placed else self.by_id.get(record.id)
        differing = "" if row is None else self._differing(row, record)
        if row is not None and not differing:
            return row, "", True
        known = f"the sample of that id asks otherwise: its {differing} differ" if differing else ""
        if record.question is None or (record.images is None and record.pictured):
            untold = "what it asks" if record.question is None else "which images it shows"
            return None, known or f"no sample has that id, and the file does not tell {untold}", False
        rows = self.by_question.get(question_key(_asked(record)) or "", [])
        rows = [row for row in rows if not self._differing(row, record)]
        if len(rows) == 1:
            return rows[0], "", False
        if rows:
            return None, f"{len(rows)} samples ask the same", False
        return None, known or "no sample has that id, or asks the same of the same images", False

    def _differing(self, row: int, record: Record) -> str:
        """Return what a record and a sample ask otherwise, as far as both tell it, or ``""``."""
        told = {
            "question": record.question is not None,
            "choices": record.choices is not None,
            "images": record.images is not None,
        }
        return differing_part(self.asked[row], _asked(record), [part for part, is_told in told.items() if is_told])


def _asked(record: Record) -> str:
    return asked_digest(record.question or "", record.choices or (), "", record.images or ())
