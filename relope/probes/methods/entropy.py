"""Certainty of the answer: exp(−mean token entropy). Trains nothing."""

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from relope.probes.confidence import Untrained, answer_values
from relope.probes.examples import Examples
from relope.probes.protocol import Traits

VERSION = 1


class Method(Untrained):
    """The order is that of the mean token entropy, turned round. An empty answer scores 0."""

    name: ClassVar[str] = "entropy"
    traits: ClassVar[Traits] = Traits(trains=False, of_answer=frozenset({"entropies"}))

    def score(self, examples: Examples) -> npt.NDArray[np.float64]:
        return np.array([np.exp(-v.mean()) if len(v) else 0.0 for v in answer_values(examples, "entropies", self.name)])
