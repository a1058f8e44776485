"""Post-Hoc Embed: an MLP on the answer's mean final-layer state and its log-prob quantiles."""

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from relope.probes.confidence import answer_states, answer_values
from relope.probes.examples import Examples
from relope.probes.features import OnFeatures
from relope.probes.protocol import Traits
from relope.probes.train import TrainSettings

VERSION = 1

_QUANTILES = np.linspace(0, 1, 11)


class Settings(TrainSettings):
    """Settings of ``posthoc``; ``quantiles=false`` leaves the embedding alone."""

    quantiles: bool = True


class Method(OnFeatures):
    """P(correct) from what is known after the answer is written.

    The features are the mean of the final-layer states that predict each answer token (end token
    excluded), the quantiles 0, 0.1, …, 1 of the token log-probs, their sum and their mean.

    Source: ReLope §5 ("output embedding after generation"); quantiles: Gupta et al. 2024.
    """

    name: ClassVar[str] = "posthoc"
    traits: ClassVar[Traits] = Traits(of_answer=frozenset({"states"}))
    Params: ClassVar[type[Settings]] = Settings

    def layers(self, layer: int) -> tuple[int, ...]:
        return ()

    def features(self, examples: Examples) -> npt.NDArray[np.float32]:
        states = answer_states(examples, self.name)
        if not self.params.quantiles:
            return states
        said = [_summary(values) for values in answer_values(examples, "logprobs", self.name)]
        numbers = np.array(said, dtype=np.float32).reshape(len(said), len(_QUANTILES) + 2)
        return np.concatenate([states, numbers], axis=1)


def _summary(logprobs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return 13 values: eleven quantiles, sum and mean; zeros for an empty answer."""
    if not len(logprobs):
        return np.zeros(len(_QUANTILES) + 2)
    return np.concatenate([np.quantile(logprobs, _QUANTILES), [logprobs.sum(), logprobs.mean()]])
