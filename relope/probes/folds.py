"""Folds that keep image groups whole, and what a method says of samples that its fit did not see."""

from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

from relope.errors import InvalidInputError
from relope.probes.examples import Examples
from relope.probes.logistic import Floats, logit
from relope.probes.protocol import Probe, fresh

Indices = npt.NDArray[np.int64]
Folds = list[tuple[Indices, Indices]]
"""(other indices, own indices) of each fold."""


@runtime_checkable
class FromFeatures(Protocol):
    """A method that reads the store once, into one row a sample, and learns from those."""

    def features(self, examples: Examples) -> npt.NDArray[np.float32]:
        """Return ``[N, F]``."""

    def fit_features(self, features: npt.NDArray[np.float32], examples: Examples, *, seed: int) -> Self:
        """Learn from features that are read already."""

    def predict_features(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return ``[N] float32``: P(correct)."""


def group_folds(groups: npt.NDArray[np.str_], folds: int, seed: int, name: str) -> Folds:
    """Return the folds of samples; a group lies in one fold, folds are about equal.

    Raises:
        InvalidInputError: all samples share one group; ``name`` is the method's.
    """
    names, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    n_folds = min(folds, len(names))
    if n_folds < 2:
        raise InvalidInputError(f"{name}: all training samples share one image", hint="extract more samples")
    order = np.random.default_rng(seed).permutation(len(names))
    fold_of, size = np.empty(len(names), np.int64), np.zeros(n_folds)
    for group in order[np.argsort(-counts[order], kind="stable")]:
        fold_of[group] = size.argmin()
        size[fold_of[group]] += counts[group]
    fold = fold_of[inverse]
    return [(np.flatnonzero(fold != number), np.flatnonzero(fold == number)) for number in range(n_folds)]


def out_of_fold(probe: Probe, examples: Examples, folds: Folds, seed: int) -> tuple[Floats, Probe]:
    """Return out-of-fold logits ``[N]`` of a method, and the method fitted on all.

    ``probe`` itself stays as it is. A method that learns from features has them read once for all folds.
    """
    said, features = np.empty(len(examples)), probe.features(examples) if isinstance(probe, FromFeatures) else None

    def fitted(indices: Indices | slice, some: Examples) -> Any:
        copy: Any = fresh(probe)
        return copy.fit(some, seed=seed) if features is None else copy.fit_features(features[indices], some, seed=seed)

    for inside, outside in folds:
        probe_of_fold = fitted(inside, examples.take(inside))
        on_fold = (
            probe_of_fold.predict_proba(examples.take(outside))
            if features is None
            else probe_of_fold.predict_features(features[outside])
        )
        said[outside] = logit(on_fold)
    return said, fitted(slice(None), examples)
