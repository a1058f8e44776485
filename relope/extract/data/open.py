"""A data set by its name, or a user's own by its path; and what it is called, without opening it."""

import os
import re
from dataclasses import replace
from pathlib import Path

from relope import registry
from relope.errors import InvalidInputError
from relope.extract.data.answers import AnswerIs
from relope.extract.data.dataset import DataSet
from relope.extract.data.own_files import looks_like_path, open_own
from relope.extract.data.rows import SUFFIXES

_NAME = re.compile(r"\w[\w.+ -]{0,99}")


def open_dataset(
    ref: str, name: str | None = None, answer_is: AnswerIs | None = None, *, allow_outside: bool = False
) -> DataSet:
    """Return a data set by its CLI name, or a user's own by its path; its identity is complete.

    Args:
        ref: a CLI name or a path.
        name: what a user's own is called; None = as its file is.
        answer_is: what the answers of a user's own are where there are choices; None = what fits.
        allow_outside: whether images of a user's own may lie outside its folder.

    Raises:
        NotFoundError: there is none of that name, or the hub cannot be reached.
        InvalidInputError: a user's file that is none of the kind that we read, or a plug-in that is no data set of
            that name: a store could not be opened again by what it records.
    """
    if ref not in registry.names("datasets") and looks_like_path(ref):
        return open_own(Path(ref), dataset_name(ref, name), answer_is, allow_outside=allow_outside)
    dataset_name(ref, name)
    if answer_is:
        raise InvalidInputError(
            f"answers of data set {ref} are known; only those of a file or folder can be {answer_is}"
        )
    dataset = registry.load("datasets", ref).DATASET
    if not isinstance(dataset, DataSet):
        raise InvalidInputError(f"the plug-in of data set {ref!r} exports no DATASET of type DataSet")
    if dataset.name != ref:
        raise InvalidInputError(f"the plug-in of data set {ref!r} calls it {dataset.name!r}; both must be the same")
    return replace(dataset, identity={**dataset.identity, **dataset.resolve()})


def dataset_name(ref: str, name: str | None = None) -> str:
    """Return what a data set is called: its CLI name; a file's name without its kind, or a folder's whole name.

    Raises:
        InvalidInputError: another name is given to one that has a CLI name, or one that no file could have.
    """
    if ref in registry.names("datasets"):
        if name not in (None, ref):
            raise InvalidInputError(f"data set {ref} has its name; {name!r} can only be that of a file or folder")
        return ref
    if name is not None:
        if not _NAME.fullmatch(name):
            raise InvalidInputError(f"data set name {name!r} must be up to 100 letters, digits, spaces and _ . + -")
        return name
    path = Path(os.path.abspath(ref))  # so that "." has a name too
    return path.stem if path.suffix in SUFFIXES else path.name
