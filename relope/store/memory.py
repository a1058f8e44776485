"""Token states in memory, read like a store: for states that no extraction of ours has made."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from relope.store.format.arrays import ArrayReader
from relope.store.format.batches import offsets_of
from relope.store.format.identity import Identity
from relope.store.format.index import SampleIndex
from relope.store.format.manifest import StoreManifest
from relope.store.rows import RowReader

_STATES_ALONE = Identity({"generation": {"max_new_tokens": 0}})
"""The identity: no questions and no answers are known."""


class MemoryReader(RowReader):
    """Samples whose arrays lie in memory, as one part; each kind of them says what its arrays are."""

    def __init__(
        self, label: str, manifest: StoreManifest, samples: pl.DataFrame, lengths: npt.NDArray[np.int64]
    ) -> None:
        """Take what is known of the samples.

        Args:
            label: what messages call them.
            manifest: what their states are.
            samples: ``[N]`` rows.
            lengths: ``[N]`` tokens of each.
        """
        super().__init__()
        self.label, self.path, self.manifest = label, Path(label.replace(" ", "-")), manifest
        n, offsets = len(samples), offsets_of(lengths)
        part = np.zeros(n, np.int64)
        self._index = SampleIndex(samples, [], part, np.arange(n), offsets[:-1], lengths, [n], [int(offsets[-1])])

    @property
    def recipe_id(self) -> str:
        """Hash of the identity of the states."""
        return self.manifest.recipe_id

    def block_folder(self, layer: int) -> Path:
        """Return a folder that does not exist: states in memory come without the weights of a block."""
        return self.path / f"block_{layer}"

    @property
    def index(self) -> SampleIndex:
        """Which samples there are: one part of all."""
        return self._index

    def thumbnails_of_part(self, number: int) -> Mapping[str, bytes]:
        """Return none."""
        return {}


class ArrayStore(MemoryReader):
    """Samples whose token states are one array in memory, the same at each of its layers."""

    def __init__(
        self,
        values: npt.NDArray[np.float32],
        offsets: npt.NDArray[np.int64],
        groups: npt.NDArray[Any],
        kinds: npt.NDArray[np.int32],
        layers: tuple[int, ...],
    ) -> None:
        """Read arrays, which are neither checked nor copied.

        Args:
            values: ``[ΣT, H]`` states of every token, sample after sample.
            offsets: ``[N + 1]``: sample ``i`` is ``values[offsets[i]:offsets[i + 1]]``.
            groups: ``[N]``; samples of one group are never split apart.
            kinds: ``[ΣT]``: 1 for image tokens, 0 for text.
            layers: numbers under which the states are read.
        """
        lengths = np.diff(offsets)
        samples = pl.DataFrame({"row": np.arange(len(lengths)), "group": groups.astype(str), "n_tokens": lengths})
        manifest = StoreManifest(_STATES_ALONE, layers, values.shape[1], "float32", ("kind",))
        super().__init__("arrays in memory", manifest, samples, lengths)
        self._tokens, self._last = values, values[offsets[1:] - 1]
        self._kinds = kinds.reshape(-1, 1)

    def array(self, number: int, name: str) -> ArrayReader:
        """Return one of the arrays, whatever layer is named."""
        kind = name.partition("/")[0]
        return ArrayRows({"hidden": self._tokens, "last": self._last, "tokens": self._kinds}[kind])


class ArrayRows:
    """Rows of an array in memory."""

    def __init__(self, values: npt.NDArray[Any]) -> None:
        self._values = values

    def read_into(self, start: int, out: npt.NDArray[Any]) -> None:
        """Copy the rows from ``start`` on."""
        np.copyto(out, self._values[start : start + len(out)])

    def take(self, rows: npt.NDArray[np.int64], out: npt.NDArray[Any]) -> None:
        """Copy some rows."""
        np.take(self._values, rows, axis=0, out=out)

    def release(self) -> None:
        """Hold on: there is no file to let go of."""
