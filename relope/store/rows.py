"""Reading samples by row number, from one store or from several as one."""

import abc
import itertools
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from relope.errors import NotFoundError
from relope.store.format.arrays import ArrayReader
from relope.store.format.batches import Buffers, Piece, RaggedBatch, check_out, cut, offsets_of
from relope.store.format.dtypes import stored_dtype, to_float32
from relope.store.format.index import Rows, SampleIndex
from relope.store.format.manifest import StoreManifest, no_layer, no_states

if TYPE_CHECKING:
    from relope.store.torch_data import TokenBatches

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
        self.bytes_read, self._counting = 0, threading.Lock()

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

    @abc.abstractmethod
    def thumbnails_of_part(self, number: int) -> Mapping[str, bytes]:
        """Return image digest → WebP of the part of that number; empty where it keeps none."""

    def thumbnail(self, row: int, image: int = 0) -> bytes | None:
        """Return what the model saw, as a small WebP that needs no data set.

        Args:
            row: number of a sample.
            image: which of its images, from 0.

        Returns:
            None where the sample has no such image, or the store keeps no thumbnail of it.

        Raises:
            InvalidInputError: there is no such row.
            StoreError: the part's thumbnails are damaged.
        """
        (number,) = self.index.numbers([row]).tolist()
        digests = self.samples.row(number, named=True).get("image_digests") or []
        if not 0 <= image < len(digests):
            return None
        return self.thumbnails_of_part(int(self.index.part[number])).get(digests[image])

    def __len__(self) -> int:
        """Return N, the number of distinct samples."""
        return len(self.samples)

    def __repr__(self) -> str:
        """Show what is read: label, model, data set, N and the layers."""
        recorded, layers = self.manifest.recorded, ", ".join(map(str, self.layers))
        made = f"{recorded.get('model', 'unknown model')} on {recorded.get('dataset', 'unknown data')}"
        kept = "answers only" if self.manifest.answers_only else f"layers {layers}"
        return f"<{type(self).__name__} {self.label}: {made}, {len(self):,} samples, {kept}>"

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers kept, ascending: each the output of that decoder block, counted from 1; 0 is the embeddings."""
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

        Args:
            layer: one of `layers`.
            rows: numbers of the samples that are wanted, in the order in which they are; None is all N.

        Raises:
            NotFoundError: the layer is not in the store.
            InvalidInputError: a row is not in the store.
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
    ) -> Iterator[RaggedBatch]:
        """Yield every token of samples, some samples at a time: ``[ΣT, H]`` values and ``[B + 1]`` offsets.

        A batch is good until the next one is asked for. Its memory is used again by later batches
        once nothing views it, so what is kept longer keeps its memory.

        Args:
            layer: which hidden states.
            rows: which samples.
            size: most samples in a batch.
            max_tokens: most tokens in a batch; a longer sample makes a batch of its own.
            rng: shuffles the rows; None keeps the given order.
            out: ``[k, H]`` in the stored dtype: read every batch into the start of this array.

        Raises:
            NotFoundError: the store has no such layer, or only its last tokens.
            InvalidInputError: no limit, or ``out`` is too small or of another type.
        """
        pieces = self.plan(layer, rows, size=size, max_tokens=max_tokens, rng=rng)
        most = max((int(self.index.n_tokens[piece].sum()) for piece in pieces), default=0)
        shape, stored = (most, self.manifest.hidden_size), stored_dtype(self.manifest.dtype)
        return self._read_pieces(layer, pieces, shape, None if out is None else check_out(out, *shape, stored))

    def plan(
        self,
        layer: int,
        rows: Rows = None,
        *,
        size: int | None = None,
        max_tokens: int | None = None,
        rng: np.random.Generator | None = None,
    ) -> list[Piece]:
        """Return the row numbers of each batch that `batches` would yield."""
        self._check_layer(layer, every_token=True)
        order = self.index.numbers(rows)
        if rng is not None:
            order = rng.permutation(order)
        return cut(order, self.index.n_tokens[order], size, max_tokens)

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

    def to_torch(
        self,
        layer: int,
        rows: Rows = None,
        *,
        size: int | None = None,
        max_tokens: int | None = None,
        seed: int | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> "TokenBatches":
        """Return a ``torch.utils.data.IterableDataset`` of every token of samples, in ragged batches.

        Each batch is ``{"rows": [B], "values": [ΣT, H], "offsets": [B + 1]}``: sample ``i`` is
        ``values[offsets[i]:offsets[i + 1]]``. Give it to a ``DataLoader`` with ``batch_size=None``.

        Args:
            layer: which hidden states.
            rows: which samples.
            size: most samples in a batch.
            max_tokens: most tokens in a batch; a longer sample makes a batch of its own.
            seed: shuffles the rows anew each epoch; None keeps their order.
            shard: ``(i, n)`` takes every n-th batch from the i-th on, as ``(rank, world size)`` would.

        Raises:
            NotFoundError: the store has no such layer, or only its last tokens.
            InvalidInputError: a value that is not allowed.
        """
        from relope.store.torch_data import TokenBatches  # a store opens without torch

        return TokenBatches(self, layer, rows, size=size, max_tokens=max_tokens, seed=seed, shard=shard)

    def token_batch(self, rows: Rows = None) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """Return ``[ΣT, C] int32`` token columns and ``[B + 1]`` offsets, in the order of ``rows``."""
        if self.manifest.answers_only:
            raise no_states(self.label, "prompt tokens")
        numbers = self.index.numbers(rows)
        offsets = offsets_of(self.index.n_tokens[numbers])
        values = np.empty((offsets[-1], len(self.manifest.token_columns)), np.int32)
        self._copy("tokens", numbers, offsets[:-1].tolist(), values)
        return values, offsets

    def tokens(self, rows: Rows = None) -> list[npt.NDArray[np.int32]]:
        """Return ``[T, C] int32`` token columns, one array a sample."""
        values, offsets = self.token_batch(rows)
        return np.split(values, offsets[1:-1]) if len(offsets) > 1 else []

    def _read_pieces(
        self, layer: int, pieces: Sequence[Piece], shape: tuple[int, int], out: npt.NDArray[Any] | None
    ) -> Iterator[RaggedBatch]:
        # Memory is taken when the first batch is asked for, so that iterators made and left do not hold any.
        buffer = self._buffers.take(shape, stored_dtype(self.manifest.dtype)) if out is None else out
        for piece in pieces:
            yield self._ragged(layer, piece, buffer)

    def _ragged(self, layer: int, rows: Piece, buffer: npt.NDArray[Any]) -> RaggedBatch:
        offsets = offsets_of(self.index.n_tokens[rows])
        values = buffer[: offsets[-1]]
        self._copy(f"hidden/{layer}", rows, offsets[:-1].tolist(), values)
        return RaggedBatch(rows, values, offsets, self.manifest.dtype)

    def _copy(self, name: str, rows: Piece, targets: Sequence[int], out: npt.NDArray[Any]) -> None:
        """Copy each sample's rows of an array to its target in ``out``."""
        index = self.index
        parts, starts, lengths = index.part[rows].tolist(), index.offset[rows].tolist(), index.n_tokens[rows].tolist()
        for target, part, start, length in zip(targets, parts, starts, lengths, strict=True):
            self.array(part, name).read_into(start, out[target : target + length])
        self._count(int(sum(lengths)) * out.shape[1] * out.itemsize)

    def _count(self, n_bytes: int) -> None:
        with self._counting:  # several threads may read at once
            self.bytes_read += n_bytes

    def _per_sample(self, name: str, rows: Rows) -> npt.NDArray[np.float32]:
        """Return ``[len(rows), H]`` float32 of an array with one row a sample."""
        if self.manifest.answers_only:
            raise no_states(self.label)
        numbers = self.index.numbers(rows)
        if self._kept_rows is None:
            return self._gathered(name, numbers)
        if name not in self._kept_rows:
            self._kept_rows[name] = self._gathered(name, self.index.numbers(None))
        return self._kept_rows[name][numbers]

    def _gathered(self, name: str, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Read ``[len(numbers), H]`` of an array with one row a sample.

        Rows are asked for in any order, but a packed chunk must be unpacked for one row as for all, and
        a remote one be fetched. So they are read in the order in which they lie, part by part, and each
        is put where it was asked for: every chunk is touched once.
        """
        dtype, stored = self.manifest.dtype, stored_dtype(self.manifest.dtype)
        out = np.empty((len(numbers), self.manifest.hidden_size), np.float32)
        self._count(out.size * stored.itemsize)
        # The i-th row that is read belongs at out[order[i]]. (The last key of lexsort is the first to sort by.)
        order = np.lexsort((self.index.local[numbers], self.index.part[numbers]))
        parts, local = self.index.part[numbers][order], self.index.local[numbers][order]
        # Rows come as stored and turn into float32 a block at a time: the matrix is never in memory twice.
        block = np.empty((min(_BLOCK_ROWS, len(numbers)), out.shape[1]), stored)
        bounds = [*np.flatnonzero(np.diff(parts, prepend=-1)).tolist(), len(parts)]  # where another part begins
        for begin, end in itertools.pairwise(bounds):
            array = self.array(int(parts[begin]), name)
            for start in range(begin, end, _BLOCK_ROWS):
                stop = min(start + _BLOCK_ROWS, end)
                array.take(local[start:stop], block[: stop - start])
                out[order[start:stop]] = to_float32(block[: stop - start], dtype)
        return out

    def _check_layer(self, layer: int, every_token: bool = False) -> None:
        if layer not in self.layers:
            raise no_layer(layer, self.manifest, self.label, f"extract again with --layers {layer} into a new --out")
        if every_token and layer not in self.manifest.token_layers:
            kept = ", ".join(map(str, self.manifest.token_layers))
            raise NotFoundError(
                f"layer {layer} has only last tokens in {self.label} (every token: {kept})",
                hint="extract again with --tokens all into a new --out",
            )
