"""Reading samples by row number, from one store or from several as one."""

import abc
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from relope.errors import InvalidInputError, NotFoundError
from relope.store.format.arrays import ArrayReader
from relope.store.format.batches import Buffers, PaddedBatch, Piece, RaggedBatch, check_out, cut, offsets_of, stream
from relope.store.format.dtypes import stored_dtype, to_float32
from relope.store.format.index import Rows, SampleIndex
from relope.store.format.manifest import StoreManifest

_BLOCK_ROWS = 256
"""Rows that are gathered at a time: as many as a chunk has."""


class RowReader(abc.ABC):
    """What can be read by row number; see `ActivationStore` and `StoreUnion`.

    Attributes:
        label: what messages call it: its path, its URI, or those of all its stores.
        path: folder of the store, or of the first one.
        is_remote: whether `path` is a temporary folder that stands for a store elsewhere.
        manifest: layers, hidden size and number type.
        bytes_read: of states and token columns, so far.
    """

    label: str
    path: Path
    manifest: StoreManifest
    is_remote: bool = False

    def __init__(self, keep_rows: bool = False) -> None:
        """Start with no memory.

        Args:
            keep_rows: keep what has one row a sample once it was read, for who asks for it again and again.
        """
        self._buffers = Buffers()
        self._kept_rows: dict[str, npt.NDArray[np.float32]] | None = {} if keep_rows else None
        self.bytes_read = 0

    @property
    @abc.abstractmethod
    def recipe_id(self) -> str:
        """Hash of the identity, or of the identities in order."""

    @abc.abstractmethod
    def block_folder(self, layer: int) -> Path:
        """Return where the weights of block ``layer`` are, if they are kept."""

    @property
    @abc.abstractmethod
    def index(self) -> SampleIndex:
        """Which samples there are and where their rows lie."""

    @abc.abstractmethod
    def array(self, number: int, name: str) -> ArrayReader:
        """Return an array of the part of that number, opened on first use."""

    def __len__(self) -> int:
        """Return N, the number of distinct samples."""
        return len(self.samples)

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers kept, ascending."""
        return self.manifest.layers

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
        size: int | None = None,
        max_tokens: int | None = None,
        rng: np.random.Generator | None = None,
        out: npt.NDArray[Any] | None = None,
        prefetch: bool = False,
    ) -> Iterator[RaggedBatch]:
        """Yield every token of samples, some samples at a time.

        A batch is good until the next one is asked for. Its memory is used again by later batches
        once nothing views it, so what is kept longer keeps its memory.

        Args:
            layer: which hidden states.
            rows: which samples.
            size: most samples in a batch.
            max_tokens: most tokens in a batch; a longer sample makes a batch of its own.
            rng: shuffles the rows; None keeps the given order.
            out: ``[k, H]`` in the stored dtype: read every batch into the start of this array.
            prefetch: read the next batch on a thread meanwhile, into a second buffer.

        Raises:
            NotFoundError: the store has no such layer, or only its last tokens.
            InvalidInputError: no limit, ``out`` too small, or both ``out`` and ``prefetch``.
        """
        pieces = self.plan(layer, rows, size=size, max_tokens=max_tokens, rng=rng)
        most = max((int(self.index.n_tokens[piece].sum()) for piece in pieces), default=0)

        def fill(piece: Piece, buffer: npt.NDArray[Any]) -> RaggedBatch:
            return self._ragged(layer, piece, buffer)

        return self._stream(pieces, fill, most, out, prefetch)

    def padded_batches(
        self,
        layer: int,
        rows: Rows = None,
        *,
        size: int | None = None,
        max_tokens: int | None = None,
        rng: np.random.Generator | None = None,
        left: bool = False,
        out: npt.NDArray[Any] | None = None,
        prefetch: bool = False,
    ) -> Iterator[PaddedBatch]:
        """Yield ``[B, T, H]`` batches, zeros behind the shorter samples, or before them with ``left``.

        As `batches`; ``max_tokens`` counts the padding too, and ``out`` is ``[k, H]`` with k the most B · T.
        """
        pieces = self.plan(layer, rows, size=size, max_tokens=max_tokens, rng=rng, padded=True)
        most = max((len(piece) * int(self.index.n_tokens[piece].max()) for piece in pieces), default=0)

        def fill(piece: Piece, buffer: npt.NDArray[Any]) -> PaddedBatch:
            return self._padded(layer, piece, buffer, left)

        return self._stream(pieces, fill, most, out, prefetch)

    def plan(
        self,
        layer: int,
        rows: Rows = None,
        *,
        size: int | None = None,
        max_tokens: int | None = None,
        rng: np.random.Generator | None = None,
        padded: bool = False,
    ) -> list[Piece]:
        """Return the row numbers of each batch that `batches` or `padded_batches` would yield."""
        self._check_layer(layer, every_token=True)
        order = self.index.numbers(rows)
        if rng is not None:
            order = rng.permutation(order)
        return cut(order, self.index.n_tokens[order], size, max_tokens, padded)

    def read(self, layer: int, rows: Rows = None, out: npt.NDArray[Any] | None = None) -> RaggedBatch:
        """Return every token of samples as one batch, in memory of its own or at the start of ``out``.

        Raises:
            NotFoundError: the store has no such layer, or only its last tokens.
            InvalidInputError: ``out`` is too small or of another type.
        """
        self._check_layer(layer, every_token=True)
        numbers = self.index.numbers(rows)
        shape = int(self.index.n_tokens[numbers].sum()), self.manifest.hidden_size
        stored = stored_dtype(self.manifest.dtype)
        return self._ragged(layer, numbers, np.empty(shape, stored) if out is None else check_out(out, *shape, stored))

    def token_batch(self, rows: Rows = None) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """Return ``[ΣT, C] int32`` token columns and ``[B + 1]`` offsets, in the order of ``rows``."""
        numbers = self.index.numbers(rows)
        offsets = offsets_of(self.index.n_tokens[numbers])
        values = np.empty((offsets[-1], len(self.manifest.token_columns)), np.int32)
        self._copy("tokens", numbers, offsets[:-1].tolist(), values)
        return values, offsets

    def tokens(self, rows: Rows = None) -> list[npt.NDArray[np.int32]]:
        """Return ``[T, C] int32`` token columns, one array a sample."""
        values, offsets = self.token_batch(rows)
        return np.split(values, offsets[1:-1]) if len(offsets) > 1 else []

    def _stream(
        self, pieces: Sequence[Piece], fill: Any, most: int, out: npt.NDArray[Any] | None, prefetch: bool
    ) -> Iterator[Any]:
        shape, stored = (most, self.manifest.hidden_size), stored_dtype(self.manifest.dtype)
        if out is not None:
            if prefetch:
                raise InvalidInputError("out and prefetch do not go together: reading ahead needs a second buffer")
            return stream(pieces, fill, [check_out(out, *shape, stored)])
        return self._stream_pooled(pieces, fill, shape, stored, 2 if prefetch else 1)

    def _stream_pooled(
        self, pieces: Sequence[Piece], fill: Any, shape: tuple[int, int], stored: np.dtype[Any], n_buffers: int
    ) -> Iterator[Any]:
        # Taken when the first batch is asked for, so that iterators made and left do not hold memory.
        yield from stream(pieces, fill, [self._buffers.take(shape, stored) for _ in range(n_buffers)])

    def _ragged(self, layer: int, rows: Piece, buffer: npt.NDArray[Any]) -> RaggedBatch:
        offsets = offsets_of(self.index.n_tokens[rows])
        values = buffer[: offsets[-1]]
        self._copy(f"hidden/{layer}", rows, offsets[:-1].tolist(), values)
        return RaggedBatch(rows, values, offsets, self.manifest.dtype)

    def _padded(self, layer: int, rows: Piece, buffer: npt.NDArray[Any], left: bool) -> PaddedBatch:
        lengths = self.index.n_tokens[rows]
        longest = int(lengths.max())
        flat = buffer[: len(rows) * longest]
        values = flat.reshape(len(rows), longest, flat.shape[1])
        starts = np.arange(len(rows)) * longest + (longest - lengths if left else 0)
        self._copy(f"hidden/{layer}", rows, starts.tolist(), flat)
        for place, length in enumerate(lengths.tolist()):
            values[place, slice(0, longest - length) if left else slice(length, longest)] = 0
        own = np.arange(longest) >= longest - lengths[:, None] if left else np.arange(longest) < lengths[:, None]
        return PaddedBatch(rows, values, own, lengths, self.manifest.dtype)

    def _copy(self, name: str, rows: Piece, places: Sequence[int], out: npt.NDArray[Any]) -> None:
        """Copy each sample's rows of an array to where it is wanted in ``out``."""
        index = self.index
        parts, starts, lengths = index.part[rows].tolist(), index.offset[rows].tolist(), index.n_tokens[rows].tolist()
        for place, part, start, length in zip(places, parts, starts, lengths, strict=True):
            self.array(part, name).read_into(start, out[place : place + length])
        self.bytes_read += int(sum(lengths)) * out.shape[1] * out.itemsize

    def _per_sample(self, name: str, rows: Rows) -> npt.NDArray[np.float32]:
        """Return ``[len(rows), H]`` float32 of an array with one row a sample."""
        numbers = self.index.numbers(rows)
        if self._kept_rows is None:
            return self._gathered(name, numbers)
        if name not in self._kept_rows:
            self._kept_rows[name] = self._gathered(name, self.index.numbers(None))
        return self._kept_rows[name][numbers]

    def _gathered(self, name: str, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Read one row a sample, each chunk once and few rows held at a time."""
        out = np.empty((len(numbers), self.manifest.hidden_size), np.float32)
        self.bytes_read += out.size * stored_dtype(self.manifest.dtype).itemsize
        order = np.lexsort((self.index.local[numbers], self.index.part[numbers]))
        parts, local = self.index.part[numbers][order], self.index.local[numbers][order]
        block = np.empty((min(_BLOCK_ROWS, len(numbers)), out.shape[1]), stored_dtype(self.manifest.dtype))
        bounds = np.flatnonzero(np.diff(parts, prepend=-1)).tolist()
        for begin, end in itertools.pairwise([*bounds, len(parts)]):
            array = self.array(int(parts[begin]), name)
            for start in range(begin, end, _BLOCK_ROWS):
                stop = min(start + _BLOCK_ROWS, end)
                array.take(local[start:stop], block[: stop - start])
                out[order[start:stop]] = to_float32(block[: stop - start], self.manifest.dtype)
        return out

    def _check_layer(self, layer: int, every_token: bool = False) -> None:
        if layer not in self.layers:
            raise NotFoundError(
                f"layer {layer} is not in {self.label} (has {_listed(self.layers)}); "
                f"extract again with --layers {layer} into a new --out"
            )
        if every_token and layer not in self.manifest.token_layers:
            kept = _listed(self.manifest.token_layers)
            raise NotFoundError(
                f"layer {layer} has only last tokens in {self.label} (every token: {kept}); "
                "extract again with --tokens all into a new --out"
            )


def _listed(layers: Sequence[int]) -> str:
    return ", ".join(map(str, layers))
