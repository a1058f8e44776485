"""L2-regularised logistic regression kept as plain arrays: what every method on words and numbers shares."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from relope.probes.files import Tensors

Floats = npt.NDArray[np.float64]
Matrix = Any
"""``[N, F]``: a scipy sparse matrix or an array."""

_PIECE = 8192
"""Rows that are copied together for statistics."""


@dataclass(frozen=True)
class Logistic:
    """Weights ``[F + 1] float64``; the last one is the intercept."""

    weights: Floats

    @classmethod
    def fit(cls, features: Matrix, labels: npt.NDArray[np.float32], c: float, seed: int) -> Self:
        """Fit to labels 0 and 1; ``c`` is the inverse strength of the penalty."""
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(C=c, max_iter=2000, random_state=seed)
        model.fit(features, labels > 0)
        return cls(np.concatenate([model.coef_[0], model.intercept_]))

    def logits(self, features: Matrix) -> Floats:
        """Return ``[N] float64``."""
        logits: Floats = features @ self.weights[:-1] + self.weights[-1]
        return logits


@dataclass(frozen=True)
class Scale:
    """Centres and scales columns ``[F]`` with statistics of the training split."""

    mean: Floats
    deviation: Floats

    @classmethod
    def learn(cls, numbers: npt.NDArray[np.floating[Any]]) -> Self:
        """Take mean and standard deviation over ``[N, F]``, in float64; a constant column is centred only.

        Rows are taken some at a time: a copy of all of them may be tens of gigabytes.
        """
        starts, n = range(0, len(numbers), _PIECE), len(numbers)
        pieces = (numbers[start : start + _PIECE].astype(np.float64) for start in starts)
        mean = np.sum([piece.sum(axis=0) for piece in pieces], axis=0) / n
        pieces = (numbers[start : start + _PIECE].astype(np.float64) - mean for start in starts)
        deviation = np.sqrt(np.sum([(piece**2).sum(axis=0) for piece in pieces], axis=0) / n)
        return cls(mean, np.where(deviation < 1e-9, 1.0, deviation))

    def __call__(self, numbers: Floats) -> Floats:
        """Return the standardised numbers ``[N, F]``."""
        return (numbers - self.mean) / self.deviation

    def tensors(self) -> Tensors:
        """Return what ``restore`` needs."""
        return {"mean": self.mean, "deviation": self.deviation}

    @classmethod
    def restore(cls, tensors: Tensors) -> Self:
        """Rebuild from ``tensors``."""
        return cls(tensors["mean"], tensors["deviation"])


def beside(*blocks: Matrix) -> Matrix:
    """Return blocks of columns, sparse or not, as one sparse matrix."""
    from scipy.sparse import csr_matrix, hstack

    return hstack([csr_matrix(block) for block in blocks], format="csr")


def logit(scores: npt.NDArray[np.float32]) -> Floats:
    """Return log-odds ``[N]`` within about ±14, so that a score of 0 or 1 stays finite."""
    inside = scores.astype(np.float64).clip(1e-6, 1 - 1e-6)
    odds: Floats = np.log(inside) - np.log1p(-inside)
    return odds


def sigmoid(logits: Floats) -> npt.NDArray[np.float32]:
    """Return probabilities ``[N] float32``."""
    from scipy.special import expit

    return np.asarray(expit(logits), dtype=np.float32)
