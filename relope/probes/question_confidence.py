"""Control: the question's words crossed with the answer's probability."""

from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from relope.probes import Examples
from relope.probes._confidence import answer_values
from relope.probes._text import TextLogistic
from relope.types import Progress, no_progress


class Method(TextLogistic):
    """Lets every kind of question have its own slope on the answer's log-odds.

    A probe that does not beat it knows no more than the question and the model's own confidence.
    """

    name: ClassVar[str] = "question-confidence"
    control: ClassVar[bool] = True

    def fit(self, examples: Examples, *, seed: int, progress: Progress = no_progress) -> Self:
        self.learn(examples, seed)
        return self

    def features(self, examples: Examples) -> npt.NDArray[np.float64]:
        words = super().features(examples)
        odds = np.array([_log_odds(values) for values in answer_values(examples, "logprobs")])[:, None]
        return np.concatenate([words, odds, words * odds], axis=1)


def _log_odds(logprobs: npt.NDArray[np.float64]) -> float:
    """Return the log-odds of the whole answer's probability, within ±8; −8 for an empty answer."""
    if not len(logprobs):
        return -8.0
    probability = np.exp(logprobs.sum())
    return float(np.clip(np.log(probability + 1e-12) - np.log1p(-probability + 1e-12), -8, 8))
