"""Where an attention probe looks, from its files alone: for one softmax nobody loads torch, which takes 400 MB."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from relope.probes.ensemble import FITS
from relope.probes.files import check_records, check_shapes, damaged, load_state
from relope.probes.router import RouterRecord
from relope.store import ActivationStore, to_float32

METHOD = "attention-probe"
_KINDS = {"image": 1, "text": 0}
_TINY = 1e-6
"""As `Pool` has it."""

Weights = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Gaze:
    """A fitted query.

    Attributes:
        query: ``[H] float32``, scaled as the tokens would have to be.
        rms: whether each token is divided by its root mean square.
        pool: ``all``, or the kind of token that alone may have weight.
    """

    query: Weights
    rms: bool
    pool: str

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read one fit.

        Raises:
            StoreError: a file is missing or damaged.
        """
        settings, tensors = load_state(folder)
        try:
            params, width = settings["params"], settings["width"]
            check_shapes(folder, tensors, {"query": [width], "standardize.scale": [width]})
            query = tensors["query"] * tensors["standardize.scale"] / np.float32(width**0.5)
            return cls(query.astype(np.float32), params["norm"] == "rms", params["pool"])
        except (LookupError, TypeError) as error:
            raise damaged(folder, f"{type(error).__name__}: {error}") from error

    def weights(self, states: Weights, kinds: npt.NDArray[np.int32]) -> Weights:
        """Return the weights ``[T]`` of one sample's tokens ``[T, H]``, as `Net.weights` of the method does."""
        scores = states @ self.query
        if self.rms:
            scores = scores * (len(self.query) ** 0.5 / np.maximum(np.linalg.norm(states, axis=1), _TINY))
        if self.pool != "all":
            scores = np.where(kinds == _KINDS[self.pool], scores, -np.inf)
        rising = np.exp(scores.astype(np.float64) - scores.max())
        weights: Weights = (rising / rising.sum()).astype(np.float32)
        return weights


def read_gazes(folder: Path, record: RouterRecord) -> Sequence[Gaze]:
    """Return the queries of a router, one a fit; none of another method than the attention probe.

    Raises:
        StoreError: a file is missing or damaged.
    """
    if record.method != METHOD:
        return ()
    check_records(folder, record.files)
    fits = sorted((folder / FITS).glob("*"))
    return [Gaze.read(fit) for fit in fits or [folder]]


def mean_weights(gazes: Sequence[Gaze], store: ActivationStore, row: int, layer: int) -> Weights:
    """Return ``[T]``: the weight of each prompt token of a sample, the mean over the fits.

    Args:
        gazes: of a router.
        store: that has the sample.
        row: of the sample.
        layer: the block l of the router; tokens are those of l-1.
    """
    rows = np.array([row], dtype=np.int64)
    (batch,) = store.batches(layer - 1, rows, size=1)
    states = to_float32(batch.values, batch.dtype)
    kinds: Any = store.tokens(rows)[0][:, store.manifest.token_columns.index("kind")]
    mean: Weights = np.mean([gaze.weights(states, kinds) for gaze in gazes], axis=0, dtype=np.float32)
    return mean
