"""Several stores of one model read as if they were one: a router may learn from more than one data set."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from relope.errors import InvalidInputError
from relope.provenance import digest
from relope.store.index import Rows
from relope.store.manifest import StoreManifest
from relope.store.reader import ActivationStore, RaggedBatch, _cut, _offsets

FREE = ("dataset", "text_only", "captions", "perturbation", "generation")
"""Fields of an identity in which stores may differ and still hold states of the same model and layers."""


def differences(first: StoreManifest, second: StoreManifest) -> dict[str, tuple[Any, Any]]:
    """Return the identity fields in which two stores differ, the free ones too."""
    keys = sorted({*first.identity, *second.identity})
    pairs = {key: (first.identity.get(key), second.identity.get(key)) for key in keys}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


class JoinedStore(ActivationStore):
    """Stores one after another; rows are numbered through. Reads as `ActivationStore` does.

    Attributes:
        path: of the first store, whose saved block is used.
        manifest: of the first store.
        stores: all of them.
    """

    def __init__(self, stores: Sequence[ActivationStore]) -> None:
        """Join stores.

        Raises:
            InvalidInputError: two differ in more than data, pictures or answer lengths, or share a sample.
        """
        first = stores[0]
        for other in stores[1:]:
            fixed = [key for key in differences(first.manifest, other.manifest) if key not in FREE]
            if fixed:
                raise InvalidInputError(
                    f"{first.path} and {other.path} differ in {', '.join(fixed)}; stores that are learned from "
                    "together must come from the same model, layers and number type"
                )
        self.stores = tuple(stores)
        self.path: Path = first.path
        self.manifest = first.manifest
        self.parts = tuple(part for store in stores for part in store.parts)
        lengths = [len(store) for store in stores]
        self._starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        self._joined = self._join()

    def _join(self) -> pl.DataFrame:
        tables = [store.samples for store in self.stores]
        joined = pl.concat(tables, how="diagonal_relaxed")
        twice = joined.filter(pl.struct("dataset", "id").is_duplicated())["id"].unique().sort()
        if len(twice):
            raise InvalidInputError(
                f"{len(twice):,} sample ids are in more than one of "
                f"{', '.join(str(store.path) for store in self.stores)} (first: {twice[0]}); give each sample once"
            )
        return joined.with_columns(pl.int_range(len(joined)).cast(joined.schema["row"]).alias("row"))

    @property
    def samples(self) -> pl.DataFrame:
        """One row a sample; ``row`` counts through all stores, columns that a store lacks are null."""
        return self._joined

    def close(self) -> None:
        """Close every store."""
        for store in self.stores:
            store.close()

    @property
    def recipe_id(self) -> str:
        """Hash of all recipes in order; that of a single store is its own."""
        ids = [store.recipe_id for store in self.stores]
        return ids[0] if len(ids) == 1 else digest(ids)

    @property
    def bytes_read(self) -> int:
        """Bytes of states read so far."""
        return sum(store.bytes_read for store in self.stores)

    def last(self, layer: int, rows: Rows = None) -> npt.NDArray[np.float32]:
        """Return ``[N, H]`` float32 hidden states of the last prompt token."""
        return self._gather(rows, lambda store, local: store.last(layer, local))

    def answer(self, rows: Rows = None) -> npt.NDArray[np.float32]:
        """Return ``[N, H]`` float32 means of the states that predict the answer."""
        return self._gather(rows, lambda store, local: store.answer(local))

    def batches(
        self,
        layer: int,
        rows: Rows = None,
        *,
        size: int,
        rng: np.random.Generator | None = None,
        max_tokens: int | None = None,
    ) -> Iterator[RaggedBatch]:
        """Yield every token of samples, some samples at a time; the arguments are those of one store."""
        order = self._numbers(rows)
        if rng is not None:
            order = rng.permutation(order)
        lengths = self.samples["n_tokens"].to_numpy()[order]
        cuts = _cut(lengths, size, max_tokens)
        for start, stop in itertools.pairwise(cuts):
            yield self._batch(layer, order[start:stop], _offsets(lengths[start:stop]))

    def _batch(self, layer: int, rows: npt.NDArray[np.int64], offsets: npt.NDArray[np.int64]) -> RaggedBatch:
        values: npt.NDArray[Any] | None = None
        for store, places, local in self._split(rows):
            (batch,) = store.batches(layer, local, size=len(local))
            if values is None:
                values = np.empty((int(offsets[-1]), batch.values.shape[1]), batch.values.dtype)
            for place, piece in zip(places, range(len(local)), strict=True):
                values[offsets[place] : offsets[place + 1]] = batch.values[
                    batch.offsets[piece] : batch.offsets[piece + 1]
                ]
        if values is None:
            raise InvalidInputError("a batch needs at least one sample")
        return RaggedBatch(rows, values, offsets, self.manifest.dtype)

    def token_batch(self, rows: Rows = None) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """Return ``[ΣT, C] int32`` token columns and ``[B + 1]`` offsets, in the order of ``rows``."""
        listed = self.tokens(rows)
        offsets = _offsets(np.array([len(one) for one in listed], np.int64))
        width = len(self.manifest.token_columns)
        return (np.concatenate(listed) if listed else np.empty((0, width), np.int32)), offsets

    def tokens(self, rows: Rows = None) -> list[npt.NDArray[np.int32]]:
        """Return ``[T, C] int32`` token columns, one array a sample."""
        numbers = self._numbers(rows)
        found: list[Any] = [None] * len(numbers)
        for store, places, local in self._split(numbers):
            for place, columns in zip(places, store.tokens(local), strict=True):
                found[place] = columns
        return found

    def _numbers(self, rows: Rows) -> npt.NDArray[np.int64]:
        return np.arange(len(self), dtype=np.int64) if rows is None else np.asarray(rows, dtype=np.int64)

    def _split(
        self, rows: npt.NDArray[np.int64]
    ) -> Iterator[tuple[ActivationStore, npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        """Yield each store with the places of its rows and their numbers within it."""
        which = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(which).tolist():
            places = np.flatnonzero(which == number)
            yield self.stores[number], places, rows[places] - self._starts[number]

    def _gather(self, rows: Rows, read: Any) -> npt.NDArray[np.float32]:
        numbers = self._numbers(rows)
        found = np.empty((len(numbers), self.manifest.hidden_size), np.float32)
        for store, places, local in self._split(numbers):
            found[places] = read(store, local)
        return found
