"""Open a store and read it at the speed of the disk."""

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt
import polars as pl

from relope.errors import InvalidInputError, NotFoundError, StoreError
from relope.places import is_uri, parse_uri
from relope.store.arrays import ArrayReader, open_array
from relope.store.catalog import Catalog, newest_catalog, parts_content_id
from relope.store.dtypes import to_float32
from relope.store.index import Rows, SampleIndex, build_index
from relope.store.layout import COMMIT, block_folder, part_folder
from relope.store.manifest import StoreManifest, array_specs, read_manifest


@dataclass(frozen=True)
class RaggedBatch:
    """Samples of different lengths, one after another.

    Attributes:
        rows: ``[B]`` row numbers.
        values: ``[ΣT, H]`` in the stored dtype; a view of a buffer that the next batch overwrites.
        offsets: ``[B + 1]``: sample ``i`` is ``values[offsets[i]:offsets[i + 1]]``.
        dtype: logical dtype of ``values``, for `to_float32`.
    """

    rows: npt.NDArray[np.int64]
    values: npt.NDArray[Any]
    offsets: npt.NDArray[np.int64]
    dtype: str


class ActivationStore:
    """A store open for reading. Opening reads the manifest and the catalog, never the arrays.

    Attributes:
        path: the store's folder.
        name: what messages call it: the path, or the URI of a store that is read where it is.
        manifest: what the store is.
        parts: ids of the parts that count, in the order of the rows.
    """

    def __init__(self, path: Path, manifest: StoreManifest, catalog: Catalog, verify: bool) -> None:
        """Use `ActivationStore.open` instead."""
        self.path = path
        self.name = str(path)
        self.manifest = manifest
        self.parts = catalog.parts
        self._catalog, self._verify = catalog, verify
        self._specs = array_specs(manifest)
        self._arrays: dict[tuple[int, str], ArrayReader] = {}

    @classmethod
    def open(cls, path: Path | str, *, verify: bool = True) -> Self:
        """Open a store, also one whose run was interrupted: its sealed parts then count.

        Args:
            path: the store's folder, or a URI: of a remote store the arrays are read where they are.
            verify: check the CRC of each chunk when it is first touched.

        Raises:
            NotFoundError: nothing is at the path.
            StoreError: it is no store, or the catalog is damaged or names a part that is absent.
        """
        if is_uri(path):
            place = parse_uri(str(path))
            if place.scheme != "file":
                from relope.store.ranged import RemoteStore

                return cast(Self, RemoteStore.open_uri(place.uri, verify=verify))
            path = place.key
        path = Path(path)
        manifest = read_manifest(path)
        catalog = newest_catalog(path)
        for part in catalog.parts:
            if not (part_folder(path, part) / COMMIT).is_file():
                raise StoreError(
                    f"part {part} of catalog/{catalog.number}.json is not in {path}\n"
                    "extract again: only what is missing is made anew"
                )
        return cls(path, manifest, catalog, verify)

    def __enter__(self) -> Self:
        """Return the store."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the store."""
        self.close()

    def close(self) -> None:
        """Release the mapped files, once no array that views them is left."""
        self._arrays.clear()

    def __len__(self) -> int:
        """Return N, the number of distinct samples."""
        return len(self.samples)

    @property
    def recipe_id(self) -> str:
        """Hash of the identity."""
        return self.manifest.recipe_id

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers kept, ascending."""
        return self.manifest.layers

    @functools.cached_property
    def content_id(self) -> str:
        """Root over the contents of the samples; as published, if it was."""
        return self._catalog.content_id or parts_content_id(self.path, self.parts)

    @functools.cached_property
    def index(self) -> SampleIndex:
        """Which samples there are and where their rows lie; read on first use."""
        return build_index(self.path, self.parts)

    @property
    def samples(self) -> pl.DataFrame:
        """One row a sample: ``row`` (0 … N - 1), what the caller saved, ``part``, ``n_tokens``, ``content``.

        Of a sample that is in several parts the first counts; `excluded` names the others.
        """
        return self.index.samples

    @property
    def excluded(self) -> list[str]:
        """Ids of samples left out because an earlier part has them, once per copy left out."""
        return self.index.excluded

    def block_folder(self, layer: int) -> Path:
        """Return where the weights of block ``layer`` are, if the store has them."""
        return block_folder(self.path, layer)

    def save(self, name: str) -> None:
        """Make a file that was written below `path` part of the store; a local one has it already."""

    def last(self, layer: int, rows: Rows = None) -> npt.NDArray[np.float32]:
        """Return ``[N, H]`` float32 hidden states of the last prompt token.

        Raises:
            NotFoundError: the layer is not in the store.
        """
        self._check_layer(layer)
        return self._per_sample(f"last/{layer}", rows)

    def answer(self, rows: Rows = None) -> npt.NDArray[np.float32]:
        """Return ``[N, H]`` float32 means of the states that predict the answer; zeros for empty answers."""
        return self._per_sample("answer", rows)

    def batches(
        self,
        layer: int,
        rows: Rows = None,
        *,
        size: int,
        rng: np.random.Generator | None = None,
        max_tokens: int | None = None,
    ) -> Iterator[RaggedBatch]:
        """Yield every token of samples, some samples at a time.

        Args:
            layer: which hidden states.
            rows: which samples.
            size: most samples in a batch.
            rng: shuffles the rows; None keeps the given order.
            max_tokens: most tokens in a batch; a longer sample makes a batch of its own.

        Raises:
            NotFoundError: the store has no such layer, or only its last tokens.
        """
        self._check_layer(layer, every_token=True)
        if size < 1 or (max_tokens is not None and max_tokens < 1):
            raise InvalidInputError(f"size {size} and max_tokens {max_tokens} must be at least 1")
        order = self.index.numbers(rows)
        if rng is not None:
            order = rng.permutation(order)
        return self._batches(f"hidden/{layer}", order, _cut(self.index.n_tokens[order], size, max_tokens))

    def token_batch(self, rows: Rows = None) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """Return ``[ΣT, C] int32`` token columns and ``[B + 1]`` offsets, in the order of ``rows``."""
        numbers = self.index.numbers(rows)
        offsets = _offsets(self.index.n_tokens[numbers])
        values = np.empty((offsets[-1], len(self.manifest.token_columns)), np.int32)
        self._copy("tokens", numbers, offsets, values)
        return values, offsets

    def tokens(self, rows: Rows = None) -> list[npt.NDArray[np.int32]]:
        """Return ``[T, C] int32`` token columns, one array a sample."""
        values, offsets = self.token_batch(rows)
        return np.split(values, offsets[1:-1]) if len(offsets) > 1 else []

    def _batches(self, name: str, order: npt.NDArray[np.int64], cuts: list[int]) -> Iterator[RaggedBatch]:
        lengths = self.index.n_tokens
        pieces = [order[start:stop] for start, stop in itertools.pairwise(cuts)]
        most = max((int(lengths[piece].sum()) for piece in pieces), default=0)
        # One buffer for all batches: copying into fresh memory costs twice as much as the read itself.
        buffer = np.empty((most, self.manifest.hidden_size), self._specs[name].stored)
        for piece in pieces:
            offsets = _offsets(lengths[piece])
            values = buffer[: offsets[-1]]
            self._copy(name, piece, offsets, values)
            yield RaggedBatch(piece, values, offsets, self.manifest.dtype)

    def _copy(
        self, name: str, rows: npt.NDArray[np.int64], offsets: npt.NDArray[np.int64], out: npt.NDArray[Any]
    ) -> None:
        parts, starts = self.index.part[rows].tolist(), self.index.offset[rows].tolist()
        bounds = offsets.tolist()
        for place, (part, start) in enumerate(zip(parts, starts, strict=True)):
            self.array(part, name).read_into(start, out[bounds[place] : bounds[place + 1]])

    def _per_sample(self, name: str, rows: Rows) -> npt.NDArray[np.float32]:
        numbers = self.index.numbers(rows)
        parts, local = self.index.part[numbers], self.index.local[numbers]
        out = np.empty((len(numbers), self.manifest.hidden_size), np.float32)
        for part in np.unique(parts).tolist():
            here = parts == part
            stored = np.empty((int(here.sum()), out.shape[1]), self._specs[name].stored)
            self.array(part, name).take(local[here], stored)
            out[here] = to_float32(stored, self.manifest.dtype)
        return out

    def array(self, number: int, name: str) -> ArrayReader:
        if (number, name) not in self._arrays:
            spec = self._specs[name]
            counts = self.index.part_tokens if spec.per_token else self.index.part_samples
            array = open_array(self.path, self.parts[number], spec, counts[number], verify=self._verify)
            self._arrays[number, name] = array
        return self._arrays[number, name]

    def _check_layer(self, layer: int, every_token: bool = False) -> None:
        if layer not in self.layers:
            raise NotFoundError(
                f"layer {layer} is not in {self.name} (has {_listed(self.layers)}); "
                f"extract again with --layers {layer} into a new --out"
            )
        if every_token and layer not in self.manifest.token_layers:
            kept = _listed(self.manifest.token_layers)
            raise NotFoundError(
                f"layer {layer} has only last tokens in {self.name} (every token: {kept}); "
                "extract again with --tokens all into a new --out"
            )


def _listed(layers: Sequence[int]) -> str:
    return ", ".join(map(str, layers))


def _offsets(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def _cut(lengths: npt.NDArray[np.int64], size: int, max_tokens: int | None) -> list[int]:
    """Return where batches start, and the end: as many samples as fit, in the given order."""
    cuts, n_tokens = [0], 0
    for place, length in enumerate(lengths.tolist()):
        full = place - cuts[-1] == size or (max_tokens is not None and n_tokens + length > max_tokens)
        if full and place > cuts[-1]:
            cuts.append(place)
            n_tokens = 0
        n_tokens += length
    return [*cuts, len(lengths)] if len(lengths) else [0]
