"""Fusion: a calibrated stack of a fitted probe, the answer's confidence and the question."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from relope.errors import InvalidInputError
from relope.probes.confidence import answer_odds, confidence_features
from relope.probes.examples import Examples, check_trainable
from relope.probes.files import check_words, load_state, save_state
from relope.probes.logistic import Logistic, Matrix, Scale, beside, sigmoid
from relope.probes.protocol import BlockUse, Params, Probe, Traits, block_use, make, method_class
from relope.probes.text import Words, question_texts
from relope.types import Progress, no_progress

VERSION = 1

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


class Settings(Params):
    """Settings of ``fusion``; every key that is not listed goes to the stacked probe."""

    probe: str = "probe"
    folds: int = Field(5, ge=2)
    c: float = Field(1.0, gt=0)
    max_words: int = Field(4096, ge=1)
    settings: dict[str, Any] = Field({})

    @model_validator(mode="before")
    @classmethod
    def _pass_on(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        own = {key: value for key, value in given.items() if key in cls.model_fields}
        rest = {key: value for key, value in given.items() if key not in cls.model_fields}
        return {**own, "settings": {**own.get("settings", {}), **rest}}


class Method:
    """P(correct) = σ(a · stack + b), stack = logistic regression on probe, confidence and question.

    The regression reads the probe's logit, the features of ``cascade-logprob`` and those of
    ``question-confidence``. What it learns from are out-of-fold logits: each training sample is
    scored by a probe fitted on the other folds, and a fold never cuts an image group, so the stack
    never sees a score that the probe gave to its own training data. The probe that predicts is
    fitted on all samples. a and b (Platt) come from out-of-fold logits of the stack itself.

    Source: not in the paper. Choice: all of it; a < 0 is taken as 0, which scores all alike.
    """

    name: ClassVar[str] = "fusion"
    traits: ClassVar[Traits] = Traits()
    Params: ClassVar[type[Settings]] = Settings

    def __init__(self, params: Settings) -> None:
        """Check the settings of the stacked probe too.

        Raises:
            NotFoundError: unknown probe.
            InvalidInputError: a probe that trains nothing, or a setting that it does not have.
        """
        self.params = params
        if params.probe == self.name or not method_class(params.probe).traits.trains:
            raise InvalidInputError(f"fusion: probe={params.probe} trains nothing that could be stacked")
        self.base_ = self._fresh()

    def _fresh(self) -> Probe:
        return make(self.params.probe, self.params.settings)

    @property
    def block_use(self) -> BlockUse:
        """How the stacked probe runs block l."""
        return block_use(self.base_)

    def layers(self, layer: int) -> tuple[int, ...]:
        return self.base_.layers(layer)

    def fit(self, examples: Examples, *, seed: int, progress: Progress = no_progress) -> Self:
        check_trainable(examples, self.name)
        folds = group_folds(examples.groups, self.params.folds, seed)
        said = np.empty(len(examples))
        for number, (inside, outside) in enumerate(folds):
            probe = self._fresh().fit(examples.take(inside), seed=seed)
            said[outside] = _logit(probe.predict_proba(examples.take(outside)))
            progress(number + 1, len(folds) + 1)
        self.base_ = self._fresh().fit(examples, seed=seed)
        self._stack(examples, said, folds, seed)
        progress(len(folds) + 1, len(folds) + 1)
        return self

    def _stack(self, examples: Examples, said: Floats, folds: list[tuple[Indices, Indices]], seed: int) -> None:
        """Learn the regression on out-of-fold logits ``[N]``, and its calibration."""
        labels, c = examples.labels, self.params.c
        self.words_ = Words.learn(question_texts(examples), self.params.max_words)
        self.scale_ = Scale.learn(self._numbers(examples, said))
        features = self._features(examples, said)
        held = np.empty(len(examples))
        for inside, outside in folds:
            held[outside] = Logistic.fit(features[inside], labels[inside], c, seed).logits(features[outside])
        self.stack_ = Logistic.fit(features, labels, c, seed)
        slope, level = Logistic.fit(held[:, None], labels, 1e6, seed).weights
        if slope < 0:
            slope, level = 0.0, float(np.log(labels.mean() / (1 - labels.mean())))
        self.platt_ = np.array([slope, level])

    def predict_proba(self, examples: Examples) -> npt.NDArray[np.float32]:
        features = self._features(examples, _logit(self.base_.predict_proba(examples)))
        return sigmoid(self.platt_[0] * self.stack_.logits(features) + self.platt_[1])

    def _numbers(self, examples: Examples, said: Floats) -> Floats:
        return np.concatenate([said[:, None], confidence_features(examples, self.name)], axis=1)

    def _features(self, examples: Examples, said: Floats) -> Matrix:
        words, odds = self.words_.transform(question_texts(examples)), answer_odds(examples, self.name)
        return beside(self.scale_(self._numbers(examples, said)), words, words.multiply(odds))

    def save(self, folder: Path) -> None:
        self.base_.save(folder / "base")
        kept = {"method": self.name, "params": self.params.model_dump(), "vocabulary": self.words_.vocabulary}
        tensors = {"weights": self.stack_.weights, "platt": self.platt_, **self.scale_.tensors()}
        save_state(folder, kept, tensors)

    @classmethod
    def load(cls, folder: Path) -> Self:
        settings, tensors = load_state(folder)
        probe = cls(cls.Params(**settings["params"]))
        probe.base_ = method_class(probe.params.probe).load(folder / "base")
        probe.words_, probe.scale_ = Words(check_words(folder, settings["vocabulary"])), Scale.restore(tensors)
        probe.stack_, probe.platt_ = Logistic(tensors["weights"]), tensors["platt"]
        return probe


def group_folds(groups: npt.NDArray[np.str_], folds: int, seed: int) -> list[tuple[Indices, Indices]]:
    """Return (other indices, own indices) of each fold; a group lies in one fold, folds are about equal.

    Raises:
        InvalidInputError: all samples share one group.
    """
    names, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    n_folds = min(folds, len(names))
    if n_folds < 2:
        raise InvalidInputError("fusion: all training samples share one image", hint="extract more samples")
    order = np.random.default_rng(seed).permutation(len(names))
    fold_of, size = np.empty(len(names), np.int64), np.zeros(n_folds)
    for name in order[np.argsort(-counts[order], kind="stable")]:
        fold_of[name] = size.argmin()
        size[fold_of[name]] += counts[name]
    fold = fold_of[inverse]
    return [(np.flatnonzero(fold != number), np.flatnonzero(fold == number)) for number in range(n_folds)]


def _logit(scores: npt.NDArray[np.float32]) -> Floats:
    """Return log-odds ``[N]`` within about ±14, so that a score of 0 or 1 stays finite."""
    inside = scores.astype(np.float64).clip(1e-6, 1 - 1e-6)
    odds: Floats = np.log(inside) - np.log1p(-inside)
    return odds
