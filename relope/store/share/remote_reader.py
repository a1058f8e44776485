"""Read a remote store without pulling it: each byte range is fetched when it is first touched.

An array's file is a sparse local one of the right size. Its index and chunks are filled in from the
remote as rows are asked for, and the readers of local stores then find them there, codecs, CRCs
and all. What was fetched stays until the store is closed.
"""

import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from relope.errors import StoreError
from relope.places import parse_uri
from relope.store.format.arrays import ArrayReader, own_chunking
from relope.store.format.layout import META, SHARD, part_folder, read_json, writing
from relope.store.format.manifest import ArraySpec
from relope.store.reader import ActivationStore
from relope.store.share.remote import SMALL_BYTES, open_remote
from relope.store.share.sidecars import pull_blocks, pull_grades
from relope.store.share.snapshot import Mirror, in_threads

_GAP_BYTES = 256 << 10
"""Ranges that lie closer are fetched together: a request costs about as much as so many bytes."""

_MOST_BYTES = 32 << 20


class RemoteStore(ActivationStore):
    """A store that is read where it is; its small files are here from the start.

    Attributes:
        bytes_fetched: bytes of arrays that were fetched so far.
    """

    is_remote = True
    mirror: Mirror
    bytes_fetched: int

    @classmethod
    def open_uri(cls, uri: str, *, verify: bool = True, keep_rows: bool = False) -> Self:
        """Open the store at a URI, as `relope.store.open_store` does.

        Raises:
            NotFoundError: no store, bucket or credentials there.
            StoreError: what is there is damaged or was tampered with.
        """
        place = parse_uri(uri)
        folder = Path(tempfile.mkdtemp(prefix="relope-"))
        try:
            mirror = Mirror(open_remote(place), folder)
            manifest = mirror.manifest
            mirror.refresh(samples=True)
            store = cls(folder, manifest, mirror.catalog, verify=verify, keep_rows=keep_rows)
            store.mirror, store.bytes_fetched, store.label = mirror, 0, place.uri
            with mirror.named():
                pull_grades(mirror, folder, store.samples["id"])
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        weakref.finalize(store, shutil.rmtree, folder, ignore_errors=True)
        return store

    def block_folder(self, layer: int) -> Path:
        """Return where the weights of block ``layer`` are, after fetching them."""
        pull_blocks(self.mirror, self.path, (layer - 1, layer))
        return super().block_folder(layer)

    def save(self, name: str) -> None:
        """Write a file of the temporary folder, such as new verdicts, to where the store is."""
        content, remote = (self.path / name).read_bytes(), self.mirror.remote
        for _ in range(20):
            found = remote.read(name)
            if remote.swap(name, content, found.tag if found else None):
                return
        raise StoreError(f"others wrote {name} at {self.label} again and again; run the command again")

    def _open_array(self, part: str, spec: ArraySpec, n_rows: int) -> ArrayReader:
        return _Ranged(self, part, spec, n_rows, lambda: super(RemoteStore, self)._open_array(part, spec, n_rows))


class _Ranged:
    """One array of a part, filled in as it is read."""

    def __init__(
        self, store: RemoteStore, part: str, spec: ArraySpec, n_rows: int, open_local: Callable[[], ArrayReader]
    ) -> None:
        self._store, self._part, self._lock = store, part, threading.Lock()
        self._name = f"{spec.name}/{SHARD}"
        mirror, commit = store.mirror, store.mirror.commit(part)
        names = [name for name in commit.files if name.startswith(f"{spec.name}/")]
        if f"{spec.name}/{META}" not in names:
            raise StoreError(f"part {part} at {store.label} has no array {spec.name}")
        mirror.fetch_file(part, f"{spec.name}/{META}", commit.files[f"{spec.name}/{META}"])
        for name in names:
            size, there = commit.files[name].n_bytes, mirror.files[part].get(name)
            if there is None or there.n_bytes != size:
                raise StoreError(f"{name} of part {part} at {store.label} is missing or has another size than pushed")
            if name != f"{spec.name}/{META}":
                self._make(name, size)
        self._chunk_rows, n_chunks = self._chunking(spec, n_rows) if self._name in names else (1, 0)
        self._offsets = self._fetch_index(commit.files[self._name].n_bytes, n_chunks) if n_chunks else None
        if self._offsets is None:
            for name in names:
                if name != f"{spec.name}/{META}":
                    self._fill(name, [(0, commit.files[name].n_bytes)])
        self._missing = np.ones(n_chunks, bool)
        with mirror.named():
            self._reader = open_local()

    def read_into(self, start: int, out: npt.NDArray[Any]) -> None:
        if len(out):
            self._need(range(start // self._chunk_rows, (start + len(out) - 1) // self._chunk_rows + 1))
        with self._store.mirror.named():
            self._reader.read_into(start, out)

    def take(self, rows: npt.NDArray[np.int64], out: npt.NDArray[Any]) -> None:
        self._need(np.unique(rows // self._chunk_rows).tolist())
        with self._store.mirror.named():
            self._reader.take(rows, out)

    def release(self) -> None:
        self._reader.release()

    def _chunking(self, spec: ArraySpec, n_rows: int) -> tuple[int, int]:
        """Return rows a chunk and the number of chunks; (1, 0) when another tool wrote it: then all of it is read."""
        with self._store.mirror.named():
            document = read_json(self._store.path, part_folder(self._store.path, self._part) / spec.name / META)
        ours = own_chunking(document, spec, n_rows) if isinstance(document, dict) else None
        return (ours.rows, ours.n_chunks) if ours else (1, 0)

    def _fetch_index(self, size: int, n_chunks: int) -> npt.NDArray[np.uint64] | None:
        start = size - 16 * n_chunks - 4
        if start < 0 or size - start > SMALL_BYTES:
            raise StoreError(f"{self._name} of part {self._part} at {self._store.label} has not the size of its index")
        self._fill(self._name, [(start, size)])
        with self._path(self._name).open("rb") as file:
            file.seek(start)
            pairs = np.frombuffer(file.read(16 * n_chunks), "<u8").reshape(-1, 2)
        used = pairs[:, 0] != np.iinfo(np.uint64).max
        if (pairs[used] > size).any() or (pairs[used].sum(axis=1) > start).any():
            raise StoreError(f"{self._name} of part {self._part} at {self._store.label} points outside itself")
        return np.where(used[:, None], pairs, 0)

    def _need(self, chunks: Iterable[int]) -> None:
        if self._offsets is None:
            return
        with self._lock:
            wanted = [chunk for chunk in chunks if chunk < len(self._missing) and self._missing[chunk]]
            spans = _joined(sorted((int(start), int(start + size)) for start, size in self._offsets[wanted] if size))
            self._fill(self._name, spans)
            self._missing[wanted] = False
            for start, stop in spans:  # and what lay in the gaps
                starts, sizes = self._offsets[:, 0], self._offsets[:, 1]
                self._missing[(starts >= start) & (starts + sizes <= stop)] = False

    def _make(self, name: str, size: int) -> None:
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing(path), path.open("wb") as file:
            file.truncate(size)

    def _fill(self, name: str, spans: list[tuple[int, int]]) -> None:
        remote = self._store.mirror.remote
        with self._path(name).open("r+b") as file:

            def fetch(span: tuple[int, int]) -> None:
                os.pwrite(file.fileno(), remote.read_range(f"parts/{self._part}/{name}", *span), span[0])

            with writing(self._path(name)):
                in_threads(fetch, _cut(spans))
        self._store.bytes_fetched += sum(stop - start for start, stop in spans)

    def _path(self, name: str) -> Path:
        return part_folder(self._store.path, self._part) / name


def _joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return sorted ranges with small gaps closed."""
    joined: list[tuple[int, int]] = []
    for start, stop in spans:
        if joined and start - joined[-1][1] <= _GAP_BYTES:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    return joined


def _cut(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the same ranges in pieces that fit into memory several at a time."""
    return [
        (at, min(at + _MOST_BYTES, stop)) for start, stop in spans for at in range(start, stop, _MOST_BYTES)
    ]  # fmt: skip
