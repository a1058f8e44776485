"""States of prompts that are being read, like a store: what routers score before anything is written."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from relope.store.format.arrays import ArrayReader
from relope.store.format.manifest import StoreManifest
from relope.store.memory import ArrayRows, MemoryReader

Array = Callable[[], npt.NDArray[Any]]
"""Gives an array when it is asked for: states leave the device only where a router reads them."""


class LiveStates(MemoryReader):
    """A few samples whose states some other code holds; arrays are fetched once, when they are first read."""

    def __init__(
        self,
        manifest: StoreManifest,
        samples: pl.DataFrame,
        lengths: npt.NDArray[np.int64],
        arrays: Mapping[str, Array],
    ) -> None:
        """Read what is being read.

        Args:
            manifest: what such states are.
            samples: ``[N]`` rows with what is known of each: its question, and its answer where there is one.
            lengths: ``[N]`` tokens of each prompt.
            arrays: name as in a part (``last/4``, ``hidden/3``, ``tokens``, ``answer``) → the array in the stored
                number type, one row a sample or a token.
        """
        super().__init__("the queries", manifest, samples, lengths)
        self._arrays, self._fetched = arrays, dict[str, ArrayReader]()

    def array(self, number: int, name: str) -> ArrayReader:
        """Return an array, fetched when it is first asked for."""
        if name not in self._fetched:
            self._fetched[name] = ArrayRows(self._arrays[name]())
        return self._fetched[name]
