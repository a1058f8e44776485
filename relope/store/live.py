"""States of prompts that are being read, like a store: what routers score before anything is written."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from relope.store.format.arrays import ArrayReader
from relope.store.format.batches import offsets_of
from relope.store.format.index import SampleIndex
from relope.store.format.manifest import StoreManifest
from relope.store.memory import ArrayRows
from relope.store.rows import RowReader

Array = Callable[[], npt.NDArray[Any]]
"""Gives an array when it is asked for: states leave the device only where a router reads them."""


class LiveStates(RowReader):
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
        super().__init__()
        self.label, self.path, self.manifest = "the queries", Path("queries-in-memory"), manifest
        self._arrays, self._fetched = arrays, dict[str, ArrayReader]()
        n, part = len(samples), np.zeros(len(samples), np.int64)
        offsets = offsets_of(lengths)
        self._index = SampleIndex(samples, [], part, np.arange(n), offsets[:-1], lengths, [n], [int(offsets[-1])])

    @property
    def recipe_id(self) -> str:
        """Hash of the identity of the states that the router learned from."""
        return self.manifest.recipe_id

    def block_folder(self, layer: int) -> Path:
        """Return a folder that does not exist: the running backbone has the block."""
        return self.path / f"block_{layer}"

    @property
    def index(self) -> SampleIndex:
        """Which samples there are: one part of all."""
        return self._index

    def thumbnails_of_part(self, number: int) -> Mapping[str, bytes]:
        """Return none."""
        return {}

    def array(self, number: int, name: str) -> ArrayReader:
        """Return an array, fetched when it is first asked for."""
        if name not in self._fetched:
            self._fetched[name] = ArrayRows(self._arrays[name]())
        return self._fetched[name]
