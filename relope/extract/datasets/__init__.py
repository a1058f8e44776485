"""Data sets: one file each, a ``DATASET`` that turns rows into samples."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from relope import registry
from relope.errors import InvalidInputError
from relope.types import Sample


@dataclass(frozen=True)
class DataSet:
    """What a data set file exports.

    Attributes:
        name: CLI name.
        splits: the labelled splits, in the order in which they are extracted.
        load: ``(split, limit)`` → samples; ``limit`` None means all.
        identity: what decides its content (repository and revision, or our own version).
        grader: the grader that suits its answers.
        max_new_tokens: how long an answer may be.
    """

    name: str
    splits: tuple[str, ...]
    load: Callable[[str, int | None], list[Sample]]
    identity: dict[str, Any] = field(default_factory=dict)
    grader: str = "auto"
    max_new_tokens: int = 64


def open_dataset(name: str) -> DataSet:
    """Return a data set by its CLI name.

    Raises:
        NotFoundError: there is none of that name.
    """
    found = registry.load("datasets", name).DATASET
    if not isinstance(found, DataSet):
        raise InvalidInputError(f"the plug-in of data set {name!r} exports no DATASET of type DataSet")
    return found


def load_samples(dataset: DataSet, splits: tuple[str, ...], limit: int | None) -> list[Sample]:
    """Return the samples of several splits, ``limit`` from each.

    Raises:
        NotFoundError: a split that the data set does not have.
        InvalidInputError: two samples share an id, or there is none at all.
    """
    samples = [sample for split in splits for sample in dataset.load(split, limit)]
    seen: set[str] = set()
    for sample in samples:
        if sample.id in seen:
            raise InvalidInputError(
                f"data set {dataset.name} has two samples with the id {sample.id!r}; ids must differ"
            )
        seen.add(sample.id)
    if not samples:
        raise InvalidInputError(
            f"data set {dataset.name} has no samples in {', '.join(splits)}; check --split and --limit"
        )
    return samples
