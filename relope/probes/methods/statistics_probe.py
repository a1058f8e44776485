"""Statistics Probe: RBF kernel logistic regression on means and deviations of the prompt's tokens."""

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from relope.probes.examples import Examples, check_finite
from relope.probes.kernel import KernelSettings, OnKernel
from relope.probes.protocol import Traits
from relope.store import RaggedBatch

VERSION = 1

_TOKENS = 1 << 14
"""Tokens that are read at a time."""

Array = npt.NDArray[np.float32]


class Method(OnKernel):
    """P(correct) from all tokens of layer l-1, pooled without anything learned, beside the last one of layer l.

    The features are ``h^(l)_T``, mean and standard deviation of the image tokens and mean of the text tokens of layer
    l-1 (zeros where there is no such token), and the logarithms of how many there are.

    Source: not in the paper; statistics pooling as in Snyder et al. 2018 (x-vectors).
    """

    name: ClassVar[str] = "statistics-probe"
    traits: ClassVar[Traits] = Traits(reads_answer=False)
    Params: ClassVar[type[KernelSettings]] = KernelSettings

    def layers(self, layer: int) -> tuple[int, ...]:
        return (layer - 1, layer)

    def features(self, examples: Examples) -> Array:
        last = examples.store.last(examples.layer, examples.rows)
        check_finite(last, self.name, f"states of layer {examples.layer}")
        batches = examples.store.batches(examples.layer - 1, examples.rows, max_tokens=_TOKENS)
        pooled = [_statistics(batch, _is_image(examples, batch)) for batch in batches]
        if not pooled:
            return np.zeros((0, 4 * last.shape[1] + 2), np.float32)
        states = np.concatenate(pooled)
        check_finite(states, self.name, f"token states of layer {examples.layer - 1}")
        return np.concatenate([last, states], axis=1)


def _is_image(examples: Examples, batch: RaggedBatch) -> npt.NDArray[np.bool_]:
    column = examples.store.manifest.token_columns.index("kind")
    is_image: npt.NDArray[np.bool_] = examples.store.token_batch(batch.rows)[0][:, column] == 1
    return is_image


def _statistics(batch: RaggedBatch, is_image: npt.NDArray[np.bool_]) -> Array:
    """Return ``[B, 3H + 2]`` of a batch; ``is_image`` is ``[ΣT]``."""
    values, starts = batch.float32(), batch.offsets[:-1]
    sample = np.repeat(np.arange(len(starts)), np.diff(batch.offsets))

    def mean(of: Array, kept: npt.NDArray[np.bool_]) -> tuple[Array, Array]:
        n: Array = np.add.reduceat(kept.astype(np.float32), starts)
        average: Array = np.add.reduceat(of * kept[:, None], starts, axis=0)
        average /= n.clip(1)[:, None]
        return average, n

    image, n_image = mean(values, is_image)
    text, n_text = mean(values, ~is_image)
    spread = np.sqrt(mean(np.square(values - image[sample]), is_image)[0])
    return np.concatenate([image, spread, text, np.log1p(n_image)[:, None], np.log1p(n_text)[:, None]], axis=1)
