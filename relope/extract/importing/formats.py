"""The format of a file: by its name, or told from the file itself."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, cast

from relope import registry
from relope.errors import InvalidInputError, NotFoundError
from relope.extract.data.halves import half_in, whole
from relope.extract.importing.record import Reading, Record
from relope.extract.importing.source import Source, columns_or_none

_KIND = "importers"


class Importer(Protocol):
    """What the file of a format exports."""

    NEEDS: str
    """What a file of it has, in words, for who gives another."""

    def recognises(self, source: Source) -> bool:
        """Return whether a file is of this format, by its name and columns; its rows are not read for it."""

    def read(self, source: Source) -> Reading:
        """Return what a file says.

        Raises:
            InvalidInputError: the file is not of this format, or of a version that is not known.
        """


def importer(name: str) -> Importer:
    """Return the importer of a format.

    Raises:
        NotFoundError: there is none of that name.
    """
    return cast(Importer, registry.load(_KIND, name))


def format_of(source: Source) -> str:
    """Return the format of a file, told from the file.

    Raises:
        NotFoundError: there is no such file.
        InvalidInputError: no format fits, or more than one does.
    """
    columns = columns_or_none(source)
    names = registry.names(_KIND)
    fitting = [] if columns is None else [name for name in names if importer(name).recognises(source)]
    if len(fitting) == 1:
        return fitting[0]
    hint = f"name it with --format ({', '.join(names)}); `relope list importers` says what each one is"
    if fitting:
        raise InvalidInputError(f"{source.path} could be of the formats {' and '.join(fitting)}", hint=hint)
    if columns is None:
        _ = source.columns  # says what is wrong with it
    has = ", ".join(columns or ()) or "no rows"
    raise InvalidInputError(
        f"{source.path} is of no format that is known (it has {has if len(has) < 160 else has[:160] + '…'})", hint=hint
    )


def _mended(record: Record) -> Record:
    """Return a record whose texts hold no half of a character, which JSON can hold and no store.

    Raises:
        InvalidInputError: it is in the id, the model or the split, which name something.
    """
    named = {"id": record.id, "model": record.model, "split": record.split}
    for name, value in named.items():
        if half := half_in(value):
            raise InvalidInputError(f"the {name} in {record.where} holds {half}, half of a character")
    texts = (record.response, record.parsed, record.question, record.choices, record.answers, record.failed)
    if not half_in(texts):
        return record
    return replace(
        record,
        response=whole(record.response),
        parsed=whole(record.parsed),
        question=whole(record.question),
        choices=None if record.choices is None else tuple(whole(record.choices)),
        answers=None if record.answers is None else tuple(whole(record.answers)),
        failed=whole(record.failed),
    )


def read_files(paths: Sequence[Path], asked: str | None) -> tuple[Reading, list[str]]:
    """Return what files say, and their formats.

    Args:
        paths: of the files.
        asked: the format of them all; None = told from each.

    Raises:
        NotFoundError: there is no such file or format.
        InvalidInputError: a file is not what its format says, or none has a record.
    """
    records, notes, formats = [], [], []
    for path in paths:
        if not path.exists():
            raise NotFoundError(f"there is no file {path}")
        if path.is_dir():
            raise InvalidInputError(f"{path} is a folder", hint="name its files")
        source = Source(path)
        formats.append(asked or format_of(source))
        reading = importer(formats[-1]).read(source)
        records += [_mended(record) for record in reading.records]
        notes += [f"{path.name}: {note}" for note in reading.notes]
    if not records:
        raise InvalidInputError(f"{', '.join(path.name for path in paths)} holds no sample")
    return Reading(records, tuple(notes)), sorted(set(formats))
