"""What `fusion` was before version 2: one probe, confidence and words in one regression. Kept for its routers."""

from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field

from relope.probes.confidence import answer_odds, confidence_features
from relope.probes.examples import Examples
from relope.probes.files import Tensors, check_words, save_state
from relope.probes.logistic import Floats, Logistic, Matrix, Scale, beside, logit, sigmoid
from relope.probes.protocol import BlockUse, Known, Params, Probe, Traits, block_use, method_class
from relope.probes.text import Words, question_texts
from relope.types import Progress, no_progress


class Settings(Params):
    """Settings that it was fitted with."""

    probe: str = "probe"
    folds: int = 5
    c: float = 1.0
    max_words: int = 4096
    settings: dict[str, Any] = Field({})


class StackOfOne:
    """P(correct) = σ(a · stack + b), stack = regression on a probe's logit, confidence, words and words · log-odds."""

    name: ClassVar[str] = "fusion"
    traits: ClassVar[Traits] = Traits()
    Params: ClassVar[type[Settings]] = Settings
    base_: Probe
    words_: Words
    scale_: Scale
    stack_: Logistic
    platt_: Floats

    def __init__(self, params: Settings) -> None:
        self.params = params

    @property
    def members_(self) -> dict[str, Probe]:
        """The probe that is stacked, by its name."""
        return {self.params.probe: self.base_}

    @property
    def block_use(self) -> BlockUse:
        """How the stacked probe runs block l."""
        return block_use(self.base_)

    def layers(self, layer: int) -> tuple[int, ...]:
        return self.base_.layers(layer)

    def fit(self, examples: Examples, *, seed: int, progress: Progress = no_progress) -> Self:
        """Return what was fitted: a new fit is another version's."""
        return self

    def predict_proba(self, examples: Examples) -> npt.NDArray[np.float32]:
        return self.predict_knowing({}, examples)

    def predict_knowing(self, known: Known, examples: Examples) -> npt.NDArray[np.float32]:
        """Return ``[N] float32``: P(correct), given what the probe says where that is known."""
        said = known.get(self.params.probe)
        features = self._features(examples, logit(self.base_.predict_proba(examples) if said is None else said))
        return sigmoid(self.platt_[0] * self.stack_.logits(features) + self.platt_[1])

    def _features(self, examples: Examples, said: Floats) -> Matrix:
        numbers = np.concatenate([said[:, None], confidence_features(examples, self.name)], axis=1)
        words, odds = self.words_.transform(question_texts(examples)), answer_odds(examples, self.name)
        return beside(self.scale_(numbers), words, words.multiply(odds))

    def save(self, folder: Path) -> None:
        self.base_.save(folder / "base")
        kept = {"method": self.name, "params": self.params.model_dump(), "vocabulary": self.words_.vocabulary}
        tensors = {"weights": self.stack_.weights, "platt": self.platt_, **self.scale_.tensors()}
        save_state(folder, kept, tensors)

    @classmethod
    def load(cls, folder: Path) -> Self:
        raise TypeError("a stack of one is restored by `fusion`")

    @classmethod
    def restore(cls, folder: Path, settings: dict[str, Any], tensors: Tensors) -> Self:
        """Rebuild what ``save`` wrote, whose state is read already."""
        probe = cls(Settings(**settings["params"]))
        probe.base_ = method_class(probe.params.probe).load(folder / "base")
        probe.words_, probe.scale_ = Words(check_words(folder, settings["vocabulary"])), Scale.restore(tensors)
        probe.stack_, probe.platt_ = Logistic(tensors["weights"]), tensors["platt"]
        return probe
