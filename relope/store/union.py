"""Several stores read as one, to fit a method on several data sets at once."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from relope.errors import InvalidInputError
from relope.provenance import digest
from relope.seals import first_line
from relope.store.format.arrays import ArrayReader
from relope.store.format.index import Rows, SampleIndex
from relope.store.reader import ActivationStore
from relope.store.rows import RowReader

FREE = ("dataset", "text_only", "captions", "perturbation", "generation")
"""Fields of an identity in which stores may differ and still hold states of the same model and layers."""

_SAME = ("layers", "token_layers", "hidden_size", "dtype", "token_columns")


class StoreUnion(RowReader):
    """Stores of one model, their rows one after another.

    ``samples`` has one more column, ``store`` (number in ``stores``). A sample that a later store has
    too, with the same data set, id and content, counts once; `excluded` names the copies.

    Attributes:
        stores: what is read, in the order of the rows.
        path, manifest, is_remote: of the first store; its recipe is not that of the others.
    """

    def __init__(self, stores: Sequence[ActivationStore]) -> None:
        """Join opened stores; they stay the caller's to close.

        Raises:
            InvalidInputError: none, or stores whose layers, width, number type, token columns or
                model differ, so that their states mean different things.
        """
        super().__init__()
        if not stores:
            raise InvalidInputError("a union needs at least one store")
        self.stores = tuple(stores)
        self.path, self.manifest, self.is_remote = stores[0].path, stores[0].manifest, stores[0].is_remote
        self.label = " + ".join(store.label for store in stores)
        for store in stores[1:]:
            _check_same(stores[0], store)

    def __reduce__(self) -> tuple[Any, ...]:
        """Be joined anew where it is unpickled, of stores that are opened anew."""
        return type(self), (self.stores,)

    @property
    def recipe_id(self) -> str:
        """Hash of all recipes in order."""
        return digest([store.recipe_id for store in self.stores])

    def block_folder(self, layer: int) -> Path:
        """Return where the first store has the weights of block ``layer``: all are of one model."""
        return self.stores[0].block_folder(layer)

    @functools.cached_property
    def index(self) -> SampleIndex:
        """Which samples there are; ``part`` counts through the parts of all stores."""
        return _joined([store.index for store in self.stores], self._first_parts.tolist())

    def array(self, number: int, name: str) -> ArrayReader:
        """Return an array of the part of that number, counted through all stores."""
        store = int(np.searchsorted(self._first_parts, number, side="right")) - 1
        return self.stores[store].array(number - int(self._first_parts[store]), name)

    def thumbnails_of_part(self, number: int) -> Mapping[str, bytes]:
        """Return those of the part of that number, counted through all stores."""
        store = int(np.searchsorted(self._first_parts, number, side="right")) - 1
        return self.stores[store].thumbnails_of_part(number - int(self._first_parts[store]))

    def origin(self, rows: Rows = None) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return for each row ``[N]`` the number of its store and ``[N]`` its row there."""
        table = self.samples[self.index.numbers(rows)]
        return table["store"].to_numpy(), table["row_in_store"].to_numpy()

    @functools.cached_property
    def _first_parts(self) -> npt.NDArray[np.int64]:
        counts = [len(store.parts) for store in self.stores]
        return np.cumsum([0, *counts[:-1]], dtype=np.int64)


def _joined(indexes: Sequence[SampleIndex], first_parts: Sequence[int]) -> SampleIndex:
    frames = [
        index.samples.rename({"row": "row_in_store"}).with_columns(store=pl.lit(number, pl.Int64))
        for number, index in enumerate(indexes)
    ]
    try:
        table = pl.concat(frames, how="diagonal_relaxed")
    except pl.exceptions.PolarsError as error:
        raise InvalidInputError(f"the samples of the stores do not fit one table: {first_line(error)}") from error
    keys = [name for name in ("dataset", "id", "content") if name in table.columns]
    first = table.select(pl.struct(keys).is_first_distinct()).to_series()
    keep = first.to_numpy()
    kept = table.filter(first).with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))
    parts = [index.part + start for index, start in zip(indexes, first_parts, strict=True)]
    return SampleIndex(
        samples=kept,
        excluded=[*(name for index in indexes for name in index.excluded), *table.filter(~first)["id"]],
        part=np.concatenate(parts)[keep],
        local=np.concatenate([index.local for index in indexes])[keep],
        offset=np.concatenate([index.offset for index in indexes])[keep],
        n_tokens=np.concatenate([index.n_tokens for index in indexes])[keep],
        part_samples=[count for index in indexes for count in index.part_samples],
        part_tokens=[count for index in indexes for count in index.part_tokens],
    )


def _check_same(first: ActivationStore, other: ActivationStore) -> None:
    changes = [
        f"{name} {getattr(first.manifest, name)} and {getattr(other.manifest, name)}"
        for name in _SAME
        if getattr(first.manifest, name) != getattr(other.manifest, name)
    ]
    known = {*FREE, *_SAME, "tokens", "stored_dtype"}
    differing = first.manifest.identity.differing(other.manifest.identity)
    changes += [f"other {name.replace('_', ' ')}" for name in differing if name not in known]
    if changes:
        raise InvalidInputError(
            f"{first.label} and {other.label} do not go together: {'; '.join(changes)}",
            hint="join stores that one model wrote with the same --layers, --tokens and dtype",
        )
