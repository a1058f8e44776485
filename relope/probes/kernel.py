"""Logistic regression on an RBF kernel, through landmarks: what the kernel methods share."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field

from relope.probes.examples import Examples, check_trainable
from relope.probes.files import Tensors, check_shapes, load_state, save_state
from relope.probes.logistic import Floats, Logistic, Scale, sigmoid
from relope.probes.protocol import Params, Traits
from relope.types import Progress, no_progress

_STRENGTHS = (0.1, 1.0, 10.0)
"""Inverse strengths of the penalty that inner validation chooses from."""

_PIECE = 1024
"""Samples whose kernel is in memory at a time."""

_RANK = 1e-6
"""Directions of the landmarks' kernel below this share of the largest are noise of floating point."""


class KernelSettings(Params):
    """Settings of the kernel methods. Choice: all of them."""

    landmarks: int = Field(1024, ge=2)
    gamma: float = Field(1.0, gt=0)
    c: float | None = Field(None, gt=0)
    inner_share: float = Field(0.15, gt=0, lt=1)


@dataclass(frozen=True)
class Kernel:
    """σ⁻¹(P) = Σ_j a_j · exp(−γ/F · ‖x − z_j‖²) + b over landmarks ``[M, F]``, x and z standardised.

    Regression in the space that the landmarks span, its coordinates whitened, penalised there as in any kernel method.

    Source: Williams and Seeger 2000 (Nyström). Choice: landmarks are drawn from the training samples.
    """

    scale: Scale
    landmarks: Floats
    weights: Floats
    gamma: float

    @classmethod
    def fit(cls, features: npt.NDArray[np.float32], examples: Examples, settings: KernelSettings, seed: int) -> Self:
        """Fit to ``[N, F]`` features of labelled examples."""
        labels, scale = examples.labels, Scale.learn(features)
        drawn = np.random.default_rng(seed).permutation(len(features))[: settings.landmarks]
        landmarks = scale(features[np.sort(drawn)].astype(np.float64))
        values, vectors = np.linalg.eigh(_rbf(landmarks, landmarks, settings.gamma))
        kept = values > _RANK * values[-1]
        whiten = vectors[:, kept] / np.sqrt(values[kept])
        span = _pieces(features, scale, landmarks, settings.gamma) @ whiten
        c = settings.c or _strength(span, examples, settings.inner_share, seed)
        fitted = Logistic.fit(span, labels, c, seed).weights
        return cls(scale, landmarks, np.append(whiten @ fitted[:-1], fitted[-1]), settings.gamma)

    def logits(self, features: npt.NDArray[np.float32]) -> Floats:
        """Return ``[N] float64``."""
        weighed: Floats = _pieces(features, self.scale, self.landmarks, self.gamma) @ self.weights[:-1]
        weighed += self.weights[-1]
        return weighed

    def tensors(self) -> Tensors:
        """Return what ``restore`` needs."""
        return {**self.scale.tensors(), "landmarks": self.landmarks, "weights": self.weights}

    @classmethod
    def restore(cls, tensors: Tensors, gamma: float) -> Self:
        """Rebuild from ``tensors``."""
        return cls(Scale.restore(tensors), tensors["landmarks"], tensors["weights"], gamma)


def _strength(span: Floats, examples: Examples, share: float, seed: int) -> float:
    """Return the c with the least log-loss on an inner validation split."""
    from relope.probes.train import inner_split

    labels = examples.labels
    inner, held = inner_split(examples.groups, labels > 0, share, seed)
    if len(np.unique(labels[inner])) < 2:
        return _STRENGTHS[0]

    def loss(c: float) -> float:
        logits = Logistic.fit(span[inner], labels[inner], c, seed).logits(span[held])
        return float((np.logaddexp(0, logits) - labels[held] * logits).mean())

    return min(_STRENGTHS, key=loss)


def _pieces(features: npt.NDArray[np.float32], scale: Scale, landmarks: Floats, gamma: float) -> Floats:
    """Return ``[N, M]``: the kernel between samples and landmarks."""
    pieces = [features[start : start + _PIECE] for start in range(0, len(features), _PIECE)]
    rows = [_rbf(scale(piece.astype(np.float64)), landmarks, gamma) for piece in pieces]
    return np.concatenate(rows) if rows else np.zeros((0, len(landmarks)))


def _rbf(rows: Floats, landmarks: Floats, gamma: float) -> Floats:
    squares = (rows**2).sum(1)[:, None] + (landmarks**2).sum(1) - 2 * rows @ landmarks.T
    kernel: Floats = np.exp(-gamma / rows.shape[1] * squares.clip(0))
    return kernel


class OnKernel(ABC):
    """Base of the methods that put such a regression on ``features``."""

    name: ClassVar[str]
    traits: ClassVar[Traits] = Traits()
    Params: ClassVar[type[KernelSettings]] = KernelSettings

    def __init__(self, params: Any) -> None:
        self.params = params

    @abstractmethod
    def features(self, examples: Examples) -> npt.NDArray[np.float32]:
        """Return ``[N, F]``, finite."""

    def fit(self, examples: Examples, *, seed: int, progress: Progress = no_progress) -> Self:
        check_trainable(examples, self.name)
        return self.fit_features(self.features(examples), examples, seed=seed)

    def fit_features(self, features: npt.NDArray[np.float32], examples: Examples, *, seed: int) -> Self:
        """Learn from features that are read already."""
        check_trainable(examples, self.name)
        self.kernel_ = Kernel.fit(features, examples, self.params, seed)
        return self

    def predict_proba(self, examples: Examples) -> npt.NDArray[np.float32]:
        return self.predict_features(self.features(examples))

    def predict_features(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return ``[N] float32``: P(correct) from features that are read already."""
        return sigmoid(self.kernel_.logits(features))

    def save(self, folder: Path) -> None:
        width = self.kernel_.landmarks.shape[1]
        kept: dict[str, Any] = {"method": self.name, "params": self.params.model_dump(), "width": width}
        save_state(folder, kept, self.kernel_.tensors())

    @classmethod
    def load(cls, folder: Path) -> Self:
        settings, tensors = load_state(folder)
        probe = cls(cls.Params(**settings["params"]))
        n, width = len(tensors["weights"]) - 1, settings["width"]
        check_shapes(folder, tensors, {"landmarks": [n, width], "mean": [width], "deviation": [width]})
        probe.kernel_ = Kernel.restore(tensors, probe.params.gamma)
        return probe
