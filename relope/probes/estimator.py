"""A routing method as a scikit-learn classifier, on hidden states from anywhere."""

from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags, assert_all_finite, column_or_1d
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data

from relope.errors import InvalidInputError
from relope.probes.arrays import examples
from relope.probes.protocol import block_use, make

_FEWEST = 4
"""Samples: two of each class."""


class RouterClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A method that reads hidden states, with the habits of scikit-learn.

    ::

        router = RouterClassifier("probe", head="logistic").fit(X, y, groups=images)
        right = router.predict_proba(X_new)[:, 1]
        RouterClassifier("attention-probe", epochs=5).fit(tokens, y, offsets=offsets)

    Attributes:
        method: CLI name: ``probe``, ``attention-probe``, or ``relope`` with ``lora=False``.
        seed: decides initial weights, batches and the inner split.
        device: where heads are trained.
        settings: of the method, as ``--set`` takes them; ``get_params`` has each by its own name.
        classes_: the two labels; the larger one counts as right.
        probe_: the fitted method.
    """

    def __init__(self, method: str = "probe", *, seed: int = 0, device: str = "cpu", **settings: Any) -> None:
        """Keep what was given; it is checked by ``fit``."""
        self.method, self.seed, self.device, self.settings = method, seed, device, settings

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return method, seed, device and the settings that were given."""
        return {"method": self.method, "seed": self.seed, "device": self.device, **self.settings}

    def set_params(self, **params: Any) -> Self:
        """Change method, seed, device or settings of the next fit."""
        for name, value in params.items():
            if name in ("method", "seed", "device"):
                setattr(self, name, value)
            else:
                self.settings = {**self.settings, name: value}
        return self

    def fit(
        self,
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        groups: npt.ArrayLike | None = None,
        offsets: npt.ArrayLike | None = None,
    ) -> Self:
        """Learn from labelled states.

        Args:
            X: ``[N, H]``, or with ``offsets`` ``[ΣT, H]``.
            y: ``[N]`` labels of two classes.
            groups: ``[N]``; samples of one group never stand on both sides of the inner split.
            offsets: ``[N + 1]`` where each sample begins in ``X``.

        Raises:
            InvalidInputError: labels of other than two classes, or a method that reads more than states.
        """
        probe = make(self.method, self.settings)
        if not probe.layers(1) or block_use(probe) != "none":
            raise InvalidInputError(f"{self.method} reads more than hidden states, which is all that arrays hold")
        states = validate_data(self, X, ensure_min_samples=_FEWEST)
        labels = column_or_1d(y, warn=True)
        assert_all_finite(labels, input_name="y")
        if offsets is None:
            check_consistent_length(states, labels)
        target = type_of_target(labels, input_name="y", raise_unknown=True)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if target != "binary" or len(self.classes_) != 2:
            raise InvalidInputError(
                "Only binary classification is supported, of two classes. "
                f"The type of the target is {target}, with {len(self.classes_)} class(es)"
            )
        given = examples(states, codes == 1, offsets=offsets, groups=groups, device=self.device)
        self.probe_ = probe.fit(given, seed=self.seed)
        return self

    def predict_proba(self, X: npt.ArrayLike, offsets: npt.ArrayLike | None = None) -> npt.NDArray[np.float64]:
        """Return ``[N, 2]``: the probability of each of ``classes_``."""
        check_is_fitted(self)
        states = validate_data(self, X, reset=False)
        right = self.probe_.predict_proba(examples(states, offsets=offsets, device=self.device)).astype(np.float64)
        return np.stack([1 - right, right], axis=1)

    def predict(self, X: npt.ArrayLike, offsets: npt.ArrayLike | None = None) -> npt.NDArray[Any]:
        """Return ``[N]`` the more probable label of each sample."""
        columns = self.predict_proba(X, offsets).argmax(axis=1)
        labels: npt.NDArray[Any] = self.classes_[columns]
        return labels

    def __sklearn_tags__(self) -> Tags:
        """Say that there are two classes."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags
