"""Probe: a five-layer MLP on the last prompt token's hidden state of layer l."""

from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt

from relope.probes import Examples, check_finite, check_trainable
from relope.probes._features import FeatureNet
from relope.probes._files import load_state, save_state
from relope.probes._train import Training
from relope.types import Progress, no_progress


class Settings(Training):
    """Settings of ``probe``; ``head=logistic`` gives the linear probe."""

    head: Literal["mlp", "logistic"] = "mlp"


class Method:
    """P(correct) = σ(MLP(h^(l)_T)), trained with binary cross-entropy.

    Source: ReLope §3 (five-layer MLP). Choice: widths 512-256-128-64, ReLU, standardised input.
    """

    name: ClassVar[str] = "probe"
    trains: ClassVar[bool] = True
    control: ClassVar[bool] = False
    reads_answer: ClassVar[bool] = False
    Params: ClassVar[type[Settings]] = Settings

    def __init__(self, params: Settings) -> None:
        self.params = params

    def layers(self, layer: int) -> tuple[int, ...]:
        return (layer,)

    def fit(self, examples: Examples, *, seed: int, progress: Progress = no_progress) -> Self:
        check_trainable(examples, self.name)
        self.net_ = FeatureNet(self._features(examples).shape[1], self.params.head, seed)
        self.history_ = self.net_.fit(self._features(examples), examples, self.params, seed, progress)
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
        found.net_ = FeatureNet.restore(settings["width"], found.params.head, tensors)
        return found

    def _features(self, examples: Examples) -> npt.NDArray[np.float32]:
        states = examples.store.last(examples.layer, examples.rows)
        check_finite(states, self.name, f"states of layer {examples.layer}")
        return states
