"""P(True): does the model call its own answer true? Trains nothing; needs --p-true."""

from typing import ClassVar

import numpy as np
import numpy.typing as npt
import polars as pl

from relope.errors import InvalidInputError
from relope.probes.confidence import Untrained
from relope.probes.examples import Examples
from relope.probes.protocol import Traits
from relope.probes.traces import lacking

VERSION = 1


class Method(Untrained):
    """P(True) / (P(True) + P(False)) of the follow-up that shows the model its own answer.

    Source: Kadavath et al. 2022, as cited by ReLope §5.
    """

    name: ClassVar[str] = "p-true"
    traits: ClassVar[Traits] = Traits(trains=False, needs={"p_true": True})

    def score(self, examples: Examples) -> npt.NDArray[np.float64]:
        if "p_true" not in examples.store.samples.columns:
            raise lacking(examples.store, self.name, "the answers of the true-or-false follow-up", self.traits)
        scores = examples.table["p_true"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        bad = int((~((scores >= 0) & (scores <= 1))).sum())
        if bad:
            raise InvalidInputError(
                f"p-true: {bad} of {len(scores)} samples of {examples.store.label} have no probability in 0–1",
                hint=f"extract again with {self.traits.flags} into a new --out",
            )
        return scores
