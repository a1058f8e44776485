"""Which samples a store has, and where the rows of each one lie."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from relope.errors import InvalidInputError, StoreError
from relope.seals import first_line
from relope.store.format.samples import OURS, read_part

Rows = npt.NDArray[np.int64] | Sequence[int] | None
"""Row numbers as in `ActivationStore.samples`; None is every row."""


@dataclass(frozen=True)
class SampleIndex:
    """The samples that count, in the order of the rows.

    Attributes:
        samples: one row a sample.
        excluded: ids of samples left out because an earlier part has them, once per copy.
        part: ``[N]`` which part, counted from 0.
        local: ``[N]`` row within the part.
        offset: ``[N]`` first token row within the part.
        n_tokens: ``[N]``.
        part_samples: number of samples of each part, those left out included.
        part_tokens: number of tokens of each part, likewise.
    """

    samples: pl.DataFrame
    excluded: list[str]
    part: npt.NDArray[np.int64]
    local: npt.NDArray[np.int64]
    offset: npt.NDArray[np.int64]
    n_tokens: npt.NDArray[np.int64]
    part_samples: list[int]
    part_tokens: list[int]

    def numbers(self, rows: Rows) -> npt.NDArray[np.int64]:
        """Return row numbers as an array.

        Raises:
            InvalidInputError: one is not a row of the store.
        """
        if rows is None:
            return np.arange(len(self.samples), dtype=np.int64)
        given = np.asarray(rows) if len(rows) else np.zeros(0, np.int64)
        if given.ndim != 1 or given.dtype.kind not in "iu":
            raise InvalidInputError(f"rows must be a list of whole numbers, got {given.dtype} of shape {given.shape}")
        numbers = given.astype(np.int64)
        if len(numbers) and (numbers.min() < 0 or numbers.max() >= len(self.samples)):
            last = len(self.samples) - 1
            raise InvalidInputError(f"rows {numbers.min()} … {numbers.max()} are not all within 0 … {last}")
        return numbers


def build_index(store: Path, parts: Sequence[str], recipe_id: str) -> SampleIndex:
    """Read the samples of parts; of a sample that is in several, the first counts.

    Raises:
        StoreError: a table is damaged or another part's, or two parts give a column types that do not go together.
    """
    frames = [read_part(store, recipe_id, part).with_columns(part=pl.lit(part)) for part in parts]
    try:
        empty = pl.DataFrame(schema={"id": pl.String, **OURS, "part": pl.String})
        table = pl.concat(frames, how="diagonal_relaxed") if frames else empty
    except pl.exceptions.PolarsError as error:
        raise StoreError(f"the samples of the parts of {store} do not fit one table: {first_line(error)}") from error
    first = table["id"].is_first_distinct()
    keep, sizes = first.to_numpy(), [len(frame) for frame in frames]
    kept = table.filter(first)
    return SampleIndex(
        samples=kept.with_row_index("row").with_columns(pl.col("row").cast(pl.Int64)),
        excluded=table.filter(~first)["id"].to_list(),
        part=np.repeat(np.arange(len(sizes), dtype=np.int64), sizes)[keep],
        local=np.concatenate([np.zeros(0, np.int64), *(np.arange(size) for size in sizes)])[keep],
        offset=kept["first_token"].to_numpy(),
        n_tokens=kept["n_tokens"].to_numpy(),
        part_samples=sizes,
        part_tokens=[int(frame["n_tokens"].sum()) for frame in frames],
    )
