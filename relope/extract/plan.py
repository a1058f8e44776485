"""What is computed in which order: units (future parts) and the batches in them.

The plan is saved before the run, so that a resumed or sharded run computes the same rows in the
same batches and seals byte-identical parts. Several processes may plan in one store, one after the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relope.partial import alone
from relope.store import read_object, write_object
from relope.types import Sample

PART_SAMPLES = 1024
PART_BYTES = 512 << 20
LONG_PROMPT = 1500
"""Tokens that a prompt is taken to have when parts are sized."""


@dataclass(frozen=True)
class Unit:
    """One part to be: sample ids in stored order, cut into batches of at most ``batch_size``."""

    ids: tuple[str, ...]
    batch_size: int

    def batches(self) -> list[tuple[str, ...]]:
        """Return the ids of each batch."""
        return [self.ids[start : start + self.batch_size] for start in range(0, len(self.ids), self.batch_size)]


def make_plan(
    path: Path,
    samples: Sequence[Sample],
    committed: set[str],
    batch_size: int,
    hidden_size: int,
) -> list[Unit]:
    """Return the units that are still to do, saving the whole plan first.

    A unit of an earlier plan is kept as it was when all its samples are asked for again and none
    is in the store yet; everything else that is missing is planned anew.

    Args:
        path: ``plan.json`` of the store.
        samples: what the store shall hold after the run.
        committed: ids that sealed parts hold already.
        batch_size: samples in one prefill.
        hidden_size: H, to keep parts below ``PART_BYTES`` a layer.
    """
    with alone(path.parent):
        return _planned(path, samples, committed, batch_size, hidden_size)


def _planned(
    path: Path, samples: Sequence[Sample], committed: set[str], batch_size: int, hidden_size: int
) -> list[Unit]:
    wanted = {sample.id: sample for sample in samples if sample.id not in committed}
    earlier = read_plan(path)
    kept = [unit for unit in earlier if all(name in wanted for name in unit.ids)]
    planned = {name for unit in kept for name in unit.ids}
    rest = [sample for sample in samples if sample.id in wanted and sample.id not in planned]
    size = max(batch_size, min(PART_SAMPLES, PART_BYTES // (hidden_size * 2 * LONG_PROMPT)))
    fresh = []
    for start in range(0, len(rest), size):
        ordered = sorted(rest[start : start + size], key=by_length)
        fresh.append(Unit(tuple(sample.id for sample in ordered), batch_size))
    if fresh:
        units = [*earlier, *fresh]
        written = [{"batch_size": unit.batch_size, "ids": list(unit.ids)} for unit in units]
        write_object(path.parent, path, {**_document(path), "units": written})
    return [*kept, *fresh]


def note_halving(path: Path, ids: Sequence[str]) -> None:
    """Record in a plan that the batch of these samples did not fit into memory and was halved."""
    with alone(path.parent):
        document = _document(path)
        halved = [*document.get("halved", []), {"first": ids[0], "samples": len(ids)}]
        write_object(path.parent, path, {**document, "halved": halved})


def halvings(path: Path) -> list[dict[str, Any]]:
    """Return every halving on record: ``first`` (a sample's id) and ``samples``."""
    return list(_document(path).get("halved", []))


def _document(path: Path) -> dict[str, Any]:
    return read_object(path.parent, path)


def by_length(sample: Sample) -> tuple[int, int, str]:
    """Sort key that puts prompts of similar length side by side; the id makes it total."""
    text = len(sample.question) + len(sample.hint) + sum(len(choice) + 4 for choice in sample.choices)
    text += sum(len(said) for _, said in sample.said_before)
    return len(sample.images), text, sample.id


def read_plan(path: Path) -> list[Unit]:
    """Return every unit that was ever planned, in order."""
    units = _document(path).get("units", [])
    return [Unit(tuple(unit["ids"]), int(unit["batch_size"])) for unit in units]
