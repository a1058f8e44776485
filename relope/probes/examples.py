"""What a method is given: some samples of a store, and what is known about them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from relope.errors import InvalidInputError
from relope.store import RowReader

if TYPE_CHECKING:
    from torch import Tensor, nn


def untold(epoch: int, loss: float, auc: float) -> None:
    """Tell nobody of an epoch."""


@dataclass(frozen=True)
class Examples:
    """Some samples of a store, with their labels where they are known.

    Attributes:
        store: the opened store.
        rows: ``[N] int64`` row numbers in the store.
        correct: ``[N] bool``, or None when predicting.
        layer: the block l whose output is read (layer l-1 is the block before).
        streams: a running backbone for methods that stream through it, or None.
        device: where heads are trained and a block of the backbone is run.
        grades: one row an example: id, parsed, parse_status and, of a store with sampled traces,
            parsed_direct and parsed_chain; None where the store is not graded.
        large_correct: ``[N] bool``, whether the large model is right; None where nobody said so.
        state: a file in which a fit keeps its state, so that a killed one goes on where it was.
        epoch_ended: told of a fit's every epoch, from 1, its mean loss and inner validation AUC as soon as it is over.
        jobs: processes that a stack may fit its methods in.
    """

    store: RowReader
    rows: npt.NDArray[np.int64]
    correct: npt.NDArray[np.bool_] | None
    layer: int
    streams: "Streams | None" = None
    device: str = "cpu"
    grades: pl.DataFrame | None = None
    large_correct: npt.NDArray[np.bool_] | None = None
    state: Path | None = None
    epoch_ended: Callable[[int, float, float], None] = untold
    jobs: int = 1

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def table(self) -> pl.DataFrame:
        """The samples' own columns, one row each, in the order of ``rows``."""
        return self.store.samples[self.rows]

    @property
    def groups(self) -> npt.NDArray[np.str_]:
        """``[N]`` group of each sample; one group never stands on both sides of a split."""
        return np.asarray(self.table["group"].to_list(), dtype=np.str_)

    @property
    def labels(self) -> npt.NDArray[np.float32]:
        """``[N] float32`` of 0 and 1; training needs both."""
        if self.correct is None:
            raise InvalidInputError(
                f"the samples of {self.store.label} have no grades here",
                hint=f"run `relope grade --store {self.store.label}`",
            )
        return self.correct.astype(np.float32)

    def take(self, indices: npt.NDArray[np.int64]) -> "Examples":
        """Return some of the examples; a fit on them keeps no state and tells nobody of its epochs."""
        return replace(
            self,
            rows=self.rows[indices],
            correct=None if self.correct is None else self.correct[indices],
            grades=None if self.grades is None else self.grades[indices],
            large_correct=None if self.large_correct is None else self.large_correct[indices],
            state=None,
            epoch_ended=untold,
        )


class Streams(Protocol):
    """A running backbone that the store's samples can be sent through again."""

    @property
    def model(self) -> Any:
        """The transformers model."""

    def last_states(self, ids: Sequence[str], block: "nn.Module", layer: int, *, stop: bool) -> "Tensor":
        """Return ``[B, H]``: what ``block``, run in place of block ``layer``, gives at the last token."""


def check_trainable(examples: Examples, name: str) -> None:
    """Refuse labels that nothing can be learned from.

    Raises:
        InvalidInputError: fewer than two samples of either class.
    """
    right = int(examples.labels.sum())
    wrong = len(examples) - right
    if min(right, wrong) < 2:
        raise InvalidInputError(
            f"{name} cannot be fitted: {right} right and {wrong} wrong answers among the training samples, "
            "of each class two are needed",
            hint=f"extract more samples, or choose {'an easier' if right < wrong else 'a harder'} data set",
        )


def check_finite(values: npt.NDArray[Any], name: str, what: str) -> None:
    """Refuse states ``[N, H]`` that are not finite.

    Raises:
        InvalidInputError: NaN or infinity; says how many samples have one.
    """
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        raise InvalidInputError(
            f"{name}: {what} of {int(bad.sum())} of {len(values)} samples hold NaN or infinity",
            hint="extract them again, with --dtype float32 or bfloat16",
        )
