"""A file of grades: one grader's, with its place in the order in which a store's grades were set.

The order is kept in the file itself, so that it goes wherever the file goes: copies, pushes, pulls and
conversions, whatever they do to times of files. The highest counts.
"""

import io
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from relope.errors import StoreError
from relope.provenance import canonical, write_bytes
from relope.seals import check_frame, check_rows, opened_frame, sealed_frame
from relope.store.format.layout import check_way, grades_folder, is_grades_name, read_small
from relope.store.grade_names import grades_name, grades_stem, is_judge

METADATA_KEY = "relope"
REMAKE = "delete the file and run `relope grade`: no model is needed"
_MAX_ORDER = 1 << 53
REQUIRED = ("id", "correct")
_BY, _PEOPLE = "by", "human"
_COLUMNS = {
    "id": (pl.String, "text"),
    "correct": (pl.Boolean, "true or false"),
    "split": (pl.String, "text"),
    "parsed": (pl.String, "text"),
    "parse_status": (pl.String, "text"),
    "by": (pl.String, "text"),
}


@dataclass(frozen=True)
class Grades:
    """One grader's grades of a store's answers.

    Attributes:
        name: ``grader@version``.
        table: ``id``, ``correct`` (null where nothing could be judged) and what else the grader read.
        order: of all grades of a store the highest count; 0 where an older relope wrote the file.
    """

    name: str
    table: pl.DataFrame
    order: int = 0

    def same_rows(self, table: pl.DataFrame) -> bool:
        """Return whether another table says the same of the same samples, in whatever order."""
        if set(self.table.columns) != set(table.columns):
            return False
        return self.table.sort("id").equals(table.select(self.table.columns).sort("id"))

    def joined(self, other: "Grades", known: Collection[str]) -> "Grades":
        """Return these grades with another's of further samples, of those that are known; the higher order stays."""
        ours = self.table["id"].to_list()
        further = other.table.filter(pl.col("id").is_in(list(known)) & ~pl.col("id").is_in(ours))
        table = pl.concat([self.table, further], how="diagonal_relaxed")
        return replace(self, table=table, order=max(self.order, other.order))

    def merged(self, base: "Grades", theirs: "Grades") -> "Grades":
        """Return these grades with what another has changed since both were `base`; the higher order stays.

        Of a sample that both have changed ours count, unless they say nothing of it, or theirs are a person's alone.
        """
        was, now, kept = _rows(base.table), _rows(theirs.table), []
        for row in self.table.iter_rows(named=True):
            name = row["id"]
            other = now.pop(name, None)
            if other is not None and other != was.get(name):
                is_same = row == was.get(name) or (name not in was and row["correct"] is None)
                row = other if is_same or other.get(_BY) == _PEOPLE != row.get(_BY) else row
            kept.append(row)
        further = [row for row in now.values() if row["id"] not in was]
        schema = {**theirs.table.schema, **self.table.schema}
        table = pl.DataFrame([*kept, *further], schema=schema)
        return replace(self, table=table, order=max(self.order, theirs.order))


def _rows(table: pl.DataFrame) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in table.iter_rows(named=True)}


def bare_grader(name: str) -> str:
    """Return the grader of ``grader@version``; a judge's model may hold an ``@`` too."""
    return name.rsplit("@", 1)[0]


def grader_flags(name: str) -> str:
    """Return what `relope grade` is given to judge by the grader of ``grader@version`` again."""
    grader = bare_grader(name)
    if is_judge(grader):
        name, _, model = grader.partition(":")
        return f"--grader {name} --judge-model {model} --endpoint URL"
    return f"--grader {grader}"


def parse_grades(name: str, content: bytes, where: str) -> Grades:
    """Return the grades that the bytes of a file hold. Every reader of grades, here or far, comes through here.

    Args:
        name: ``grader@version``, as the file is called.
        content: of the file.
        where: what an error calls it.

    Raises:
        StoreError: it is no table of grades, an id is repeated or null, or a grade is neither true nor false.
    """
    table = opened_frame(content, where, REMAKE)
    for column, (dtype, what) in _COLUMNS.items():
        if table.schema.get(column) != dtype and (column in REQUIRED or column in table.columns):
            has = table.schema.get(column, "absent")
            raise StoreError(
                f"{where} is damaged: it must have the columns id (text) and correct (true or false); "
                f"its {column} is {has}, not {what}",
                hint=REMAKE,
            )
    repeated = table.filter(pl.col("id").is_duplicated() | pl.col("id").is_null())["id"]
    if len(repeated):
        raise StoreError(
            f"{where} is damaged: {len(repeated)} ids are repeated or null (first: {repeated[0]})", hint=REMAKE
        )
    return Grades(name, table, _order(pl.read_parquet_metadata(io.BytesIO(content)), name, where))


def _order(metadata: Mapping[str, str], name: str, where: str) -> int:
    if METADATA_KEY not in metadata:
        return 0
    try:
        fields = json.loads(metadata[METADATA_KEY])
        order, written_as = fields["order"], fields["grader"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise StoreError(f"{where} is damaged: its metadata cannot be read ({error})", hint=REMAKE) from error
    if type(order) is not int or not 0 <= order < _MAX_ORDER:
        raise StoreError(f"{where} is damaged: its order is {order!s:.40}", hint=REMAKE)
    if grades_name(str(written_as)) != name:
        raise StoreError(f"{where} holds the grades of {written_as!s:.80}", hint="give the file its name back")
    return order


def grades_bytes(grades: Grades) -> bytes:
    """Return the content of a file of grades; the same grades give the same bytes."""
    facts = {"grader": grades_stem(grades.name), "order": grades.order}
    return sealed_frame(grades.table, {METADATA_KEY: canonical(facts).decode()} if grades.order else None)


def write_grades_file(store: Path, path: Path, grades: Grades) -> None:
    """Write a file of grades of a store atomically.

    Raises:
        StoreError: a symbolic link would lead the file out of the store.
    """
    check_way(store, path)
    write_bytes(path, grades_bytes(grades))


def read_grades_file(store: Path, path: Path) -> Grades:
    """Return the grades of one file of a store.

    Raises:
        StoreError: as `parse_grades`, or it is missing or lies behind a symbolic link.
    """
    return parse_grades(grades_name(path.stem), read_small(store, path), _where(store, path))


def orders(store: Path) -> dict[str, int]:
    """Return name → order of all grades of the store in a folder; their tables are not read.

    Raises:
        StoreError: a file is damaged, or lies behind a symbolic link.
    """
    paths = sorted(path for path in grades_folder(store).glob("*.parquet") if is_grades_name(path.name))
    return {grades_name(path.stem): _order_of(store, path) for path in paths}


def _order_of(store: Path, path: Path) -> int:
    content, where = read_small(store, path), _where(store, path)
    check_frame(content, where, REMAKE)
    check_rows(content, where, REMAKE)
    return _order(pl.read_parquet_metadata(io.BytesIO(content)), grades_name(path.stem), where)


def _where(store: Path, path: Path) -> str:
    return f"{path.relative_to(store)} in {store}"


def highest(known: Mapping[str, int], own: str) -> str:
    """Return the name of the highest order.

    Files that an older relope wrote carry none. Among several of these the store's own grader counts, at its
    highest version: times of files would not survive a copy.

    Args:
        known: name → order, one or more.
        own: the store's own grader.
    """

    def rank(name: str) -> tuple[int, bool, list[tuple[bool, int, str]]]:
        words = [(word.isdecimal(), int(word) if word.isdecimal() else 0, word) for word in re.split(r"(\d+)", name)]
        return known[name], bare_grader(name) == own, words

    return max(known, key=rank)


def add_grades(store: Path, name: str, theirs: Grades, ids: Collection[str]) -> bool:
    """Add grades of some samples to a store's file of them; return whether that changed anything.

    Args:
        store: a folder.
        name: of the file below the folder.
        theirs: what is added, where the file has nothing of a sample.
        ids: samples of the store.
    """
    path = store / name
    is_new = not path.is_file()
    ours = Grades(theirs.name, theirs.table.clear()) if is_new else read_grades_file(store, path)
    both = ours.joined(theirs, ids)
    if len(both.table) == len(ours.table) and (is_new or both.order == ours.order):
        return False
    write_grades_file(store, path, both)
    return True
