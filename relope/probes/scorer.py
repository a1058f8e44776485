"""A logistic regression on the answer's confidence and, with an encoder, on its text: both cascades."""

from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field

from relope.probes.confidence import confidence_features
from relope.probes.encoder import Encoder, restore_encoder
from relope.probes.examples import Examples, check_trainable
from relope.probes.files import load_state, save_state
from relope.probes.logistic import Logistic, Matrix, Scale, beside, sigmoid
from relope.probes.protocol import Params, Traits
from relope.probes.text import answered_texts
from relope.types import Progress, no_progress


class ScorerSettings(Params):
    """Settings of ``cascade-logprob``."""

    c: float = Field(1.0, gt=0, description="inverse strength of the L2 penalty")


class Scorer:
    """g(question, answer) → P(correct), a logistic regression; subclasses say what it reads."""

    name: ClassVar[str]
    traits: ClassVar[Traits] = Traits(of_answer=frozenset({"entropies"}))
    Params: ClassVar[type[ScorerSettings]] = ScorerSettings

    def __init__(self, params: Any) -> None:
        self.params = params

    def layers(self, layer: int) -> tuple[int, ...]:
        return ()

    def encoder(self) -> Encoder | None:
        """Return an encoder that has learned nothing yet; None reads the confidence alone."""
        return None

    def fit(self, examples: Examples, *, seed: int, progress: Progress = no_progress) -> Self:
        check_trainable(examples, self.name)
        encoder = self.encoder()
        self.encoder_ = encoder.learn(answered_texts(examples)) if encoder else None
        self.scale_ = Scale.learn(confidence_features(examples, self.name))
        self.model_ = Logistic.fit(self._features(examples), examples.labels, self.params.c, seed)
        return self

    def predict_proba(self, examples: Examples) -> npt.NDArray[np.float32]:
        return sigmoid(self.model_.logits(self._features(examples)))

    def _features(self, examples: Examples) -> Matrix:
        numbers = self.scale_(confidence_features(examples, self.name))
        return numbers if self.encoder_ is None else beside(self.encoder_.encode(answered_texts(examples)), numbers)

    def save(self, folder: Path) -> None:
        settings, tensors = self.encoder_.state() if self.encoder_ else ({}, {})
        kept: dict[str, Any] = {"method": self.name, "params": self.params.model_dump(), "text": settings}
        save_state(folder, kept, {"weights": self.model_.weights, **self.scale_.tensors(), **tensors})

    @classmethod
    def load(cls, folder: Path) -> Self:
        settings, tensors = load_state(folder)
        probe = cls(cls.Params(**settings["params"]))
        probe.encoder_ = restore_encoder(settings["text"], tensors) if settings["text"] else None
        probe.scale_ = Scale.restore(tensors)
        probe.model_ = Logistic(tensors["weights"])
        return probe
