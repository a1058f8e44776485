"""Examples from plain arrays: what a method is given where hidden states come from elsewhere."""

from typing import Any

import numpy as np
import numpy.typing as npt

from relope.errors import InvalidInputError
from relope.probes.examples import Examples
from relope.store.memory import ArrayStore


def examples(
    X: npt.ArrayLike,
    y: npt.ArrayLike | None = None,
    *,
    offsets: npt.ArrayLike | None = None,
    groups: npt.ArrayLike | None = None,
    kinds: npt.ArrayLike | None = None,
    layer: int = 1,
    device: str = "cpu",
) -> Examples:
    """Return arrays as the examples that every method takes.

    ::

        probe = method_class("probe")(method_class("probe").Params(head="logistic"))
        probe.fit(examples(X, y), seed=0).predict_proba(examples(X_new))

    Args:
        X: ``[N, H]`` a state a sample, the last prompt token's for ``probe``; or with ``offsets``
            ``[ΣT, H]`` those of every token, sample after sample, for ``attention-probe``.
        y: ``[N]`` whether the small model is right; None when predicting.
        offsets: ``[N + 1]``: sample ``i`` is ``X[offsets[i]:offsets[i + 1]]``.
        groups: ``[N]``; samples of one group (of one image) are never split apart. None = all apart.
        kinds: ``[ΣT]``: 1 for image tokens, 0 for text, for ``pool=image``. None = all text.
        layer: number of the block whose output ``X`` is; methods read it, and the one before, from ``X``.
        device: where heads are trained.

    Raises:
        InvalidInputError: arrays whose shapes do not go together.
    """
    values = np.ascontiguousarray(X, dtype=np.float32)
    if values.ndim != 2:
        raise InvalidInputError(f"X has shape {values.shape}, must be [samples, H], or [tokens, H] with offsets")
    bounds = np.arange(len(values) + 1) if offsets is None else np.asarray(offsets, dtype=np.int64)
    if bounds.ndim != 1 or [*bounds[:1], *bounds[-1:]] != [0, len(values)] or (np.diff(bounds) < 1).any():
        raise InvalidInputError(f"offsets must rise from 0 to {len(values)}, the tokens in X, by one token or more")
    n = len(bounds) - 1
    store = ArrayStore(
        values,
        bounds,
        np.arange(n) if groups is None else _sized("groups", groups, n),
        np.zeros(len(values), np.int32) if kinds is None else _sized("kinds", kinds, len(values)).astype(np.int32),
        (layer - 1, layer),
    )
    correct = None if y is None else _sized("y", y, n).astype(bool)
    return Examples(store, np.arange(n), correct, layer, device=device)


def _sized(name: str, values: npt.ArrayLike, n: int) -> npt.NDArray[Any]:
    array = np.asarray(values)
    if array.shape != (n,):
        raise InvalidInputError(f"{name} has shape {array.shape}, must be ({n},)")
    return array
