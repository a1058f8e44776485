"""Answers that another tool has got, as a store of answers only, and its verdicts on them as grades."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from relope.asked import ASKED
from relope.errors import InvalidInputError
from relope.extract.answer_store import answer_columns, answers_manifest, seal_rows
from relope.extract.importing.record import Record
from relope.provenance import versions
from relope.store import ActivationStore, StoreManifest, create_or_open, open_store
from relope.store.grade_files import orders
from relope.store.grades import read_grades
from relope.store.labels import IMPORTED, write_labels
from relope.types import Answer

OF_A_SAMPLE = (
    *("id", "dataset", "split", "group", "question", "choices", "answers", "input", ASKED, "image_digests"),
    *("kind", "family"),
)
"""Columns that say what a sample asks: taken over from the store that it was matched in."""

_READ_AGAIN = ("dataset_source", "answer_is", "allow_outside")
"""What a store records of where its data set lies and how it is read."""


@dataclass(frozen=True)
class Written:
    """What a store of imported answers holds now.

    Attributes:
        n_new: answers that it did not hold.
        accuracy: mean of the verdicts that came with the file; None where it has none.
        n_verdicts: that came with it.
        changed: whether anything was written.
    """

    n_new: int
    accuracy: float | None
    n_verdicts: int
    changed: bool


def imported_manifest(model: str, formats: Sequence[str], small: StoreManifest | None, name: str) -> StoreManifest:
    """Return the manifest of a store of imported answers.

    The files' formats are recorded and key nothing: the answers are the same, whoever has written them down.

    Args:
        model: that has answered.
        formats: of the files.
        small: of the store that samples were matched in; None where the files stand alone.
        name: what the data set is called where they do.
    """
    dataset = {"source": "imported", "name": name} if small is None else small.identity.dataset
    identity = {"model": model, "runs": "elsewhere", "imported": True, "dataset": dataset, "text_only": False}
    again = {} if small is None else {key: small.recorded[key] for key in _READ_AGAIN if key in small.recorded}
    recorded = {
        "model": model,
        "imported": list(formats),
        "dataset": name if small is None else small.recorded["dataset"],
        **again,
        "versions": versions(),
    }
    return answers_manifest({**identity, "generation": {}}, recorded, "auto" if small is None else small.grader)


def matched_rows(rows: Mapping[int, Record], samples: pl.DataFrame) -> list[dict[str, Any]]:
    """Return what a store of answers keeps of records: the matched sample's own columns, and the answer's.

    Args:
        rows: row of the samples → its record.
        samples: that were matched.
    """
    asked = samples.select([name for name in OF_A_SAMPLE if name in samples.columns])
    order = sorted(rows)
    sides = asked[order].iter_rows(named=True)
    return [{**side, **_answered(rows[row])} for row, side in zip(order, sides, strict=True)]


def lone_rows(records: Sequence[Record], dataset: str) -> list[dict[str, Any]]:
    """Return what a store of answers keeps of records that no other store is matched to.

    Raises:
        InvalidInputError: one has no id, or an id is repeated.
    """
    first: dict[str, str] = {}
    for record in records:
        if not record.id:
            raise InvalidInputError(
                f"{record.where} has no id, and a place in a file is none",
                hint="give the small model's store with --store: its samples are then found by question and images",
            )
        if other := first.get(record.id):
            raise InvalidInputError(f"{other} and {record.where} have the same id {record.id!r}; ids must differ")
        first[record.id] = record.where
    return [{**_lone(record, dataset), **_answered(record)} for record in records]


def write_imported(
    out: Path, manifest: StoreManifest, rows: Sequence[Mapping[str, Any]], records: Sequence[Record]
) -> Written:
    """Write answers that a store lacks, and all verdicts that came with them.

    Args:
        out: folder of the store.
        manifest: of it.
        rows: one an answer.
        records: that they are of, in the same order.

    Raises:
        InvalidInputError: the store holds another answer to one of the samples.
        StoreError: at the path is a store of something else.
    """
    writer = create_or_open(out, manifest)
    writer.sweep()
    with open_store(out) as store:
        known = _known(store, rows)
    new = [row for row in rows if row["id"] not in known]
    seal_rows(writer, new)
    writer.publish()
    verdicts = {str(row["id"]): record for row, record in zip(rows, records, strict=True) if record.correct is not None}
    changed = _keep_verdicts(out, verdicts) if verdicts else False
    right = [record.correct for record in verdicts.values()]
    return Written(len(new), sum(map(bool, right)) / len(right) if right else None, len(right), bool(new) or changed)


def _known(store: ActivationStore, rows: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the ids of the samples that a store holds.

    Raises:
        InvalidInputError: with another answer.
    """
    if not len(store):
        return set()
    stored = dict(store.samples.select("id", "response").iter_rows())
    other = [str(row["id"]) for row in rows if row["id"] in stored and stored[row["id"]] != row["response"]]
    if other:
        raise InvalidInputError(
            f"{store.label} holds another answer to {len(other)} of {len(rows)} samples (first: {other[0]})",
            hint="import into a new --out",
        )
    return set(stored)


def _keep_verdicts(out: Path, verdicts: Mapping[str, Record]) -> bool:
    """Keep verdicts as the store's grades ``imported@1``; return whether that changed anything."""
    with open_store(out) as store:
        read = store.samples.select("id", "split")
        before = read_grades(store, IMPORTED).table if IMPORTED in orders(store.path) else None
        parsed = {} if before is None else dict(before.select("id", "parsed").iter_rows())
        parsed |= {name: record.parsed for name, record in verdicts.items()}
        texts = [parsed.get(name) or "" for name in read["id"]]
        table = read.with_columns(
            pl.Series("correct", [None] * len(read), pl.Boolean),
            pl.Series("parsed", texts, pl.String),
            pl.Series("parse_status", ["parsed" if text else "unparsed" for text in texts], pl.String),
        )
        correct_by_id = {name: record.correct for name, record in verdicts.items()}
        return write_labels(store, correct_by_id, table, IMPORTED)[2]


def _answered(record: Record) -> dict[str, Any]:
    """Return the columns of an answer; where a file keeps verdicts alone, the answer is null and not empty."""
    answer = Answer(record.response or "", finish_reason=record.finish_reason, usage=record.usage)
    return {**answer_columns(answer), "response": record.response}


def _lone(record: Record, dataset: str) -> dict[str, Any]:
    """Return the columns of a sample of which nothing is known but what the file says; the rest is null."""
    images = None if record.images is None else list(record.images)
    return {
        "id": record.id,
        "dataset": dataset,
        "split": record.split or "test",
        "group": record.images[0] if record.images else record.id,
        "question": record.question,
        "choices": None if record.choices is None else list(record.choices),
        "answers": None if record.answers is None else list(record.answers),
        ASKED: None,
        "image_digests": images,
        "kind": "",
        "family": dataset,
    }
