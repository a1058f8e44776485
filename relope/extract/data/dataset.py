"""What a data set is: the record that its file exports as ``DATASET``, and how its samples are asked for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from relope.errors import InvalidInputError, unknown, unknown_split
from relope.types import Sample


def _nothing() -> dict[str, Any]:
    return {}


def _untold() -> str:
    return ""


@dataclass(frozen=True)
class DataSet:
    """What a data set file exports.

    Attributes:
        name: CLI name.
        splits: the labelled splits, in the order in which they are extracted.
        load: ``(split, limit)`` → samples; ``limit`` None means all.
        identity: what decides its content (repository and configuration, or our own version).
        resolve: what of its identity is only known when it is opened: the hub revision.
        grader: the grader that suits its answers.
        max_new_tokens: how long an answer may be.
        aliases: other names of splits → the splits that they stand for.
        source: what `open_dataset` opens it by, when that is not its name.
        reading: how the source was told to be read: recorded, so that it is read so again.
        notes: what a user should know of how it was read, a line each.
        shares: whether train and test are shares that we cut, of a file that names no splits.
        counts: split → its samples, where that is known without loading them.
        license: what its licence is, as it says itself and the Hub spells it; ``""`` where it does not say.
    """

    name: str
    splits: tuple[str, ...]
    load: Callable[[str, int | None], list[Sample]]
    identity: dict[str, Any] = field(default_factory=dict)
    resolve: Callable[[], dict[str, Any]] = _nothing
    grader: str = "auto"
    max_new_tokens: int = 64
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    source: str = ""
    reading: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    shares: bool = False
    counts: Mapping[str, int] = field(default_factory=dict)
    license: Callable[[], str] = _untold

    @property
    def told(self) -> dict[str, Any]:
        """What a store records of it, beside its identity."""
        license = self.license()
        source = {"dataset_source": self.source, **self.reading} if self.source else {}
        return {"dataset": self.name, **source, **({"data_license": license} if license else {})}


def check_splits(dataset: DataSet, asked: Sequence[str]) -> tuple[str, ...]:
    """Return the splits to extract: what was asked, aliases resolved, else all labelled ones.

    Raises:
        NotFoundError: the data set has no such split.
    """
    splits: list[str] = []
    for split in asked:
        if split not in dataset.splits and split not in dataset.aliases:
            if dataset.counts:
                raise unknown_split(dataset.name, split, dataset.counts, "--split takes those; without it, all")
            raise unknown(f"split of {dataset.name}", split, [*dataset.splits, *dataset.aliases])
        splits += dataset.aliases.get(split, (split,))
    return tuple(dict.fromkeys(splits)) or dataset.splits


def load_samples(dataset: DataSet, splits: tuple[str, ...], limit: int | None) -> list[Sample]:
    """Return the samples of several splits, ``limit`` from each.

    Raises:
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
            f"data set {dataset.name} has no samples in {', '.join(splits)}", hint="check --split and --limit"
        )
    return samples
