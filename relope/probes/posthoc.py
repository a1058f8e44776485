"""Post-Hoc Embed: an MLP on the answer's mean final-layer state and its log-prob quantiles."""

from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from relope.probes import Examples, check_finite, check_trainable
from relope.probes._confidence import answer_values, check_answers
from relope.probes._features import FeatureNet
from relope.probes._files import load_state, save_state
from relope.probes._train import Training
from relope.types import Progress, no_progress

_QUANTILES = np.linspace(0, 1, 11)


class Settings(Training):
    """Settings of ``posthoc``; ``quantiles=false`` leaves the embedding alone."""

    quantiles: bool = True


class Method:
    """P(correct) from what is known after the answer is written.

    The features are the mean of the final-layer states that predict each answer token (end token
    excluded), the quantiles 0, 0.1, …, 1 of the token log-probs, their sum and their mean.

    Source: ReLope §5 ("output embedding after generation"); quantiles: Gupta et al. 2024.
    """

    name: ClassVar[str] = "posthoc"
    trains: ClassVar[bool] = True
    control: ClassVar[bool] = False
    Params: ClassVar[type[Settings]] = Settings

    def __init__(self, params: Settings) -> None:
        self.params = params

    def layers(self, layer: int) -> tuple[int, ...]:
        return ()

    def fit(self, examples: Examples, *, seed: int, progress: Progress = no_progress) -> Self:
        check_trainable(examples, self.name)
        features = self._features(examples)
        self.net_ = FeatureNet(features.shape[1], "mlp", seed)
        self.history_ = self.net_.fit(features, examples, self.params, seed, progress)
        return self

    def predict_proba(self, examples: Examples) -> npt.NDArray[np.float32]:
        return self.net_.predict(self._features(examples))

    def save(self, folder: Path) -> None:
        settings: dict[str, Any] = {"method": self.name, "params": self.params.model_dump(), "width": self.net_.width}
        save_state(folder, settings, self.net_.tensors())

    @classmethod
    def load(cls, folder: Path) -> Self:
        settings, tensors = load_state(folder)
        found = cls(cls.Params(**settings["params"]))
        found.net_ = FeatureNet.restore(settings["width"], "mlp", tensors)
        return found

    def _features(self, examples: Examples) -> npt.NDArray[np.float32]:
        check_answers(examples, self.name)
        states = examples.store.answer(examples.rows)
        check_finite(states, self.name, "answer states")
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
