"""Whether a user's own file is still the data set that a store was begun with: the same one, or the same one grown."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import polars as pl

from relope.errors import InvalidInputError, StoreError
from relope.extract.data.flaws import check_unchanged
from relope.extract.extraction import Extraction
from relope.store import read_manifest, read_samples, sealed_parts
from relope.types import OWN, Sample

log = logging.getLogger(__name__)
LOST_SHARE = 0.5
"""Share of a store's samples that its data file may have lost and still be the same data set.

Choice: rows are deleted when they turn out wrong, a few at a time; files that share less are two.
"""


def continued(extraction: Extraction, out: Path) -> Extraction:
    """Return an extraction that goes on with a store, when its own file has only grown since the store was begun.

    The digest in the identity of an own file is of all its samples, so that no two files are one recipe. A
    store keeps the digest of the day it was begun, and grows with a file that still holds its samples.

    Raises:
        InvalidInputError: the store holds samples of a data set of another name, many that the file lacks
            now, or some that ask something else or stand in another split now.
    """
    dataset = extraction.dataset
    if dataset.identity.get("source") != OWN or not (out / "zarr.json").is_file():
        return extraction
    manifest = read_manifest(out)
    begun = manifest.identity.dataset
    if begun == dataset.identity or begun.get("source") != OWN:
        return extraction
    name = begun.get("name", manifest.recorded.get("dataset"))
    if name != dataset.name:
        raise InvalidInputError(
            f"{out} holds samples of data set {name!r}, not of {dataset.name!r}",
            hint=f"choose another --out, or add --name {name!r} if they are one data set",
        )
    stored = stored_inputs(out)
    if not stored:
        return extraction
    _check_holds(out, stored, extraction)
    return replace(extraction, dataset=replace(dataset, identity=begun))


def stored_inputs(store: Path) -> dict[str, tuple[str, str]]:
    """Return id → input digest and split of the samples in a store; parts without those columns are passed over."""
    known: dict[str, tuple[str, str]] = {}
    for part in sealed_parts(store):
        try:
            frame = read_samples(store, part, ("id", "input", "split"))
        except StoreError:
            continue
        known.update({name: (digest, split) for name, digest, split in _rows(frame)})
    return known


def _rows(frame: pl.DataFrame) -> list[tuple[str, str, str]]:
    return frame.select("id", "input", "split").rows()


def _check_holds(out: Path, stored: Mapping[str, tuple[str, str]], extraction: Extraction) -> None:
    """Make sure that a data set still holds everything that a store has of it."""
    dataset = extraction.dataset
    shown = extraction.view.worded(sample for split in dataset.splits for sample in dataset.load(split, None))
    held: dict[str, Sample] = {sample.id: sample for sample in shown}
    gone = [name for name in stored if name not in held]
    lacking = f"{len(gone)} of the {len(stored)} samples in {out} are not in data set {dataset.name!r}"
    if len(gone) > LOST_SHARE * len(stored):
        hint = "a store grows with its data file: put them back, or choose another --out"
        raise InvalidInputError(f"{lacking} (first: {gone[0]}): it is another one", hint=hint)
    if gone:
        log.warning("%s any more (first: %s); they stay in the store", lacking, gone[0])
    check_unchanged({name: digest for name, (digest, _) in stored.items()}, list(held.values()))
    moved = [name for name, (_, split) in stored.items() if name in held and held[name].split != split]
    if moved and not dataset.shares:
        raise InvalidInputError(
            f"{len(moved)} of the samples in {out} are in another split now (first: {moved[0]})",
            hint="put them back, or choose another --out",
        )
