"""Routing methods: one file each, a ``Method`` class that predicts P(the small model is right).

Every method obeys ``Probe``, also those that train nothing. The name of the file is the name on
the command line.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError

from relope import registry
from relope.errors import InvalidInputError
from relope.store import RowReader
from relope.types import Progress, no_progress


class Params(BaseModel):
    """Base of a method's own settings, given as ``--set key=value``."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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
        verdicts: one row an example: id, parsed, parse_status and, of a store with sampled traces,
            parsed_direct and parsed_chain; None where the store is not graded.
        large_correct: ``[N] bool``, whether the large model is right; None where nobody said so.
        state: a file in which a fit keeps its state, so that a killed one goes on where it was.
    """

    store: RowReader
    rows: npt.NDArray[np.int64]
    correct: npt.NDArray[np.bool_] | None
    layer: int
    streams: "Streams | None" = None
    device: str = "cpu"
    verdicts: pl.DataFrame | None = None
    large_correct: npt.NDArray[np.bool_] | None = None
    state: Path | None = None

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
            raise InvalidInputError("these samples have no verdicts; run `relope grade --store` first")
        return self.correct.astype(np.float32)

    def take(self, places: npt.NDArray[np.int64]) -> "Examples":
        """Return the examples at some places; a fit on them keeps no state."""
        return replace(
            self,
            rows=self.rows[places],
            correct=None if self.correct is None else self.correct[places],
            verdicts=None if self.verdicts is None else self.verdicts[places],
            large_correct=None if self.large_correct is None else self.large_correct[places],
            state=None,
        )


class Streams(Protocol):
    """A running backbone that the store's samples can be sent through again."""

    @property
    def model(self) -> Any:
        """The transformers model."""

    def last_states(self, ids: Sequence[str], block: Any, layer: int, *, stop: bool) -> Any:
        """Return ``[B, H]``: what ``block``, put in the place of block ``layer``, gives at the last token."""


class Probe(Protocol):
    """A routing method, scikit-learn style.

    A class may also have ``needs`` (the flag of `relope extract` that adds what it reads),
    ``reads_answer`` (False when it scores before the small model answers, so that an escalated query
    costs no answer; True unless it says so), ``reads_verdicts`` and ``reads_large`` (True when its
    scores, or its fit, depend on ``Examples.verdicts`` or ``Examples.large_correct``), and an
    instance ``note``: what a reader of its scores should know. Each is looked up with a default.
    """

    name: ClassVar[str]
    trains: ClassVar[bool]
    control: ClassVar[bool]
    Params: ClassVar[type[Params]]

    def __init__(self, params: Any) -> None: ...

    def layers(self, layer: int) -> tuple[int, ...]:
        """Return the layers that must be in the store to work at ``layer``."""

    def fit(self, examples: Examples, *, seed: int, progress: Progress = no_progress) -> Self:
        """Learn from labelled examples."""

    def predict_proba(self, examples: Examples) -> npt.NDArray[np.float32]:
        """Return ``[N] float32``: P(correct)."""

    def save(self, folder: Path) -> None:
        """Write tensors and settings into a folder."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote; scores are then equal to the bit."""


def method_class(name: str) -> type[Probe]:
    """Return the class of a method by CLI name.

    Raises:
        NotFoundError: there is none of that name.
    """
    return registry.load("methods", name).Method  # type: ignore[no-any-return]


def make(name: str, settings: dict[str, Any]) -> Probe:
    """Return an unfitted method with its settings checked.

    Raises:
        NotFoundError: unknown method.
        InvalidInputError: unknown or ill-typed setting; the message lists those there are.
    """
    method = method_class(name)
    try:
        params = method.Params(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        known = ", ".join(f"{field}={info.default}" for field, info in method.Params.model_fields.items()) or "none"
        raise InvalidInputError(
            f"{name}: setting {key}={settings.get(key)!r}: {first['msg'].lower()} (settings and defaults: {known})"
        ) from error
    return method(params)


def check_trainable(examples: Examples, name: str) -> None:
    """Refuse labels that nothing can be learned from.

    Raises:
        InvalidInputError: fewer than two samples of either class.
    """
    right = int(examples.labels.sum())
    wrong = len(examples) - right
    if min(right, wrong) < 2:
        raise InvalidInputError(
            f"{name} cannot be fitted: {right} right and {wrong} wrong answers among the training samples; "
            "extract more samples, or choose a harder data set"
        )


def check_finite(values: npt.NDArray[Any], name: str, what: str) -> None:
    """Refuse states ``[N, H]`` that are not finite.

    Raises:
        InvalidInputError: NaN or infinity; says how many samples have one.
    """
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        raise InvalidInputError(
            f"{name}: {what} of {int(bad.sum())} of {len(values)} samples hold NaN or infinity; "
            "extract them again, with --dtype float32 or bfloat16"
        )
