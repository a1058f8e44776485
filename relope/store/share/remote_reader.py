"""Read a remote store without pulling it: each byte range is fetched when it is first touched.

An array's file is a sparse local one of the right size. Its index and chunks are filled in from the
remote as rows are asked for, and the readers of local stores then find them, codecs, CRCs and all.
What was fetched stays until the store is closed.
"""

import functools
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
from relope.locations import parse_uri
from relope.store.format.arrays import ArrayReader, Chunking, own_chunking
from relope.store.format.layout import META, SHARD, THUMBNAILS, grades_folder, part_folder, read_json, writing
from relope.store.format.manifest import ArraySpec
from relope.store.grade_files import Grades, read_grades_file
from relope.store.reader import ActivationStore
from relope.store.share.remote import SMALL_BYTES
from relope.store.share.schemes import open_remote
from relope.store.share.sidecars import pull_blocks, pull_grades, save_grades
from relope.store.share.snapshot import RemoteSnapshot
from relope.store.share.threads import in_threads

_GAP_BYTES = 256 << 10
"""Ranges that lie closer are fetched together: a request costs about as much as so many bytes."""

_MOST_BYTES = 32 << 20
"""Longer ranges are fetched in pieces, several at a time in memory."""

Span = tuple[int, int]
"""First byte of a range, and one behind its last."""


class RemoteStore(ActivationStore):
    """A store that is read where it is; its small files are here from the start.

    Attributes:
        snapshot: the store's small files, in the temporary folder that `path` names.
        bytes_fetched: bytes of arrays that were fetched so far.
    """

    is_remote = True

    def __init__(self, snapshot: RemoteSnapshot, *, verify: bool = True, keep_rows: bool = False) -> None:
        """Use `relope.store.open_store` instead."""
        super().__init__(snapshot.folder, snapshot.manifest, snapshot.catalog, verify=verify, keep_rows=keep_rows)
        self.label = snapshot.uri
        self.snapshot = snapshot
        self.bytes_fetched = 0
        self._shared_grades: dict[str, Grades] = {}

    @classmethod
    def open_uri(cls, uri: str, *, verify: bool = True, keep_rows: bool = False) -> Self:
        """Open the store at a URI, as `relope.store.open_store` does.

        Raises:
            NotFoundError: no store, bucket or credentials there.
            StoreError: what is there is damaged or was tampered with.
        """
        remote, folder = open_remote(parse_uri(uri)), Path(tempfile.mkdtemp(prefix="relope-"))
        try:
            snapshot = RemoteSnapshot(remote, folder)
            snapshot.refresh(samples=True)
            store = cls(snapshot, verify=verify, keep_rows=keep_rows)
            with snapshot.named():
                pull_grades(snapshot, folder, store.samples["id"])
                for path in grades_folder(folder).glob("*.parquet"):
                    store._shared_grades[f"{path.parent.name}/{path.name}"] = read_grades_file(folder, path)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        weakref.finalize(store, shutil.rmtree, folder, ignore_errors=True)
        return store

    def __reduce__(self) -> tuple[Any, ...]:
        """Be opened anew where it is unpickled: the temporary folder goes with this store."""
        keep_rows = self._kept_rows is not None
        return functools.partial(type(self).open_uri, verify=self._verify, keep_rows=keep_rows), (self.label,)

    def block_folder(self, layer: int) -> Path:
        """Return where the weights of block ``layer`` are, after fetching them."""
        pull_blocks(self.snapshot, self.path, (layer - 1, layer))
        return super().block_folder(layer)

    def _read_thumbnails(self, part: str) -> dict[str, bytes]:
        record = self.snapshot.commit(part).files.get(THUMBNAILS)
        if record is None:
            return {}
        self.snapshot.fetch_file(part, THUMBNAILS, record)
        with self.snapshot.named():
            return super()._read_thumbnails(part)

    def save(self, name: str) -> None:
        """Share grades of the temporary folder where the store is, beside what others have changed there since."""
        with self.snapshot.named():
            ids = set(self.samples["id"])
            self._shared_grades[name] = save_grades(self.path, name, self._shared_grades.get(name), ids, self.snapshot)

    def _open_array(self, part: str, spec: ArraySpec, n_rows: int) -> ArrayReader:
        return LazyRemoteArray(self, part, spec, n_rows, super()._open_array)


class LazyRemoteArray:
    """One array of a part, read by a local reader from local files that are filled in just before it.

    The files are made at once, as long as the remote ones and empty, with only the shard's
    index filled in; so the local reader can be opened, and believes that all is there. Before each read the
    chunks that it will touch are fetched to where they belong. Their bytes are checked by the local
    reader, against the CRC that stands behind each chunk: a sha256 of a file of which only some is
    here could not be taken. An array that is not laid out as our writer does it is fetched whole.
    """

    def __init__(
        self,
        store: RemoteStore,
        part: str,
        spec: ArraySpec,
        n_rows: int,
        open_local: Callable[[str, ArraySpec, int], ArrayReader],
    ) -> None:
        """Make the array's files and open the local reader on them.

        Raises:
            StoreError: a file is missing or of another size than pushed, or the index is damaged.
        """
        self._store, self._part = store, part
        self._shard = f"{spec.name}/{SHARD}"
        self._lock = threading.Lock()
        sizes = self._make_files(spec.name)
        chunking = self._chunking(spec, n_rows) if self._shard in sizes else None
        if chunking:
            self._chunk_rows = chunking.rows
            self._chunks = self._fetch_index(sizes[self._shard], chunking.n_chunks)
        else:
            self._chunk_rows, self._chunks = 1, np.zeros((0, 2), np.uint64)
            for name, size in sizes.items():
                self._fill(name, [(0, size)])
        self._missing = np.ones(len(self._chunks), bool)
        with store.snapshot.named():
            self._reader = open_local(part, spec, n_rows)

    def read_into(self, start: int, out: npt.NDArray[Any]) -> None:
        """Copy rows ``start .. start + len(out)``, after fetching what is missing of them."""
        if len(out):
            self._fetch_chunks(range(start // self._chunk_rows, (start + len(out) - 1) // self._chunk_rows + 1))
        with self._store.snapshot.named():
            self._reader.read_into(start, out)

    def take(self, rows: npt.NDArray[np.int64], out: npt.NDArray[Any]) -> None:
        """Copy the given rows, in the given order, after fetching what is missing of them."""
        self._fetch_chunks(np.unique(rows // self._chunk_rows).tolist())
        with self._store.snapshot.named():
            self._reader.take(rows, out)

    def release(self) -> None:
        """Let go of the open file; what was fetched stays."""
        self._reader.release()

    def _make_files(self, array: str) -> dict[str, int]:
        """Fetch ``zarr.json`` of the array and make its other files, empty; return their sizes by name."""
        snapshot, label, meta = self._store.snapshot, self._store.label, f"{array}/{META}"
        files = snapshot.commit(self._part).files
        records = {name: record for name, record in files.items() if name.startswith(f"{array}/")}
        if meta not in records:
            raise StoreError(f"part {self._part} at {label} has no array {array}")
        snapshot.fetch_file(self._part, meta, records[meta])
        listed = snapshot.files[self._part]
        for name, record in records.items():
            if name not in listed or listed[name].n_bytes != record.n_bytes:
                raise StoreError(f"{name} of part {self._part} at {label} is missing or has another size than pushed")
        sizes = {name: record.n_bytes for name, record in records.items() if name != meta}
        for name, size in sizes.items():
            path = self._path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            with writing(path), path.open("wb") as file:
                file.truncate(size)  # sparse: it takes no room until it is filled in
        return sizes

    def _chunking(self, spec: ArraySpec, n_rows: int) -> Chunking | None:
        """Return how the rows are cut into chunks; None when another tool wrote them."""
        folder = self._store.path
        with self._store.snapshot.named():
            document = read_json(folder, part_folder(folder, self._part) / spec.name / META)
        return own_chunking(document, spec, n_rows) if isinstance(document, dict) else None

    def _fetch_index(self, size: int, n_chunks: int) -> npt.NDArray[np.uint64]:
        """Fetch the end of the shard and return ``[n_chunks, 2]``: offset and size of each chunk, 0 where unwritten.

        The index decides which bytes are asked of the remote, so it is held against the file's size here;
        its CRC is checked by the local reader.
        """
        start = size - 16 * n_chunks - 4
        if start < 0 or size - start > SMALL_BYTES:
            raise StoreError(f"{self._shard} of part {self._part} at {self._store.label} has not the size of its index")
        self._fill(self._shard, [(start, size)])
        with self._path(self._shard).open("rb") as file:
            file.seek(start)
            pairs = np.frombuffer(file.read(16 * n_chunks), "<u8").reshape(-1, 2)
        used = pairs[:, 0] != np.iinfo(np.uint64).max
        # Each number alone first: a sum of two large ones could wrap around and look small.
        if (pairs[used] > size).any() or (pairs[used].sum(axis=1) > start).any():
            raise StoreError(f"{self._shard} of part {self._part} at {self._store.label} points outside itself")
        return np.where(used[:, None], pairs, 0)

    def _fetch_chunks(self, numbers: Iterable[int]) -> None:
        """Fetch those of some chunks that are missing, and mark what came with them."""
        if not self._missing.any():  # also without the lock: a mark is taken away only once the bytes are in place
            return
        with self._lock:  # another thread may be fetching the same chunk: its bytes must be in place before we read
            wanted = [number for number in numbers if number < len(self._missing) and self._missing[number]]
            spans = _joined(sorted((int(start), int(start + size)) for start, size in self._chunks[wanted] if size))
            self._fill(self._shard, spans)
            self._missing[wanted] = False
            starts, ends = self._chunks[:, 0], self._chunks.sum(axis=1)
            for start, stop in spans:  # whole chunks lay in the gaps that were fetched along
                self._missing[(starts >= start) & (ends <= stop)] = False

    def _fill(self, name: str, spans: list[Span]) -> None:
        """Fetch ranges of a file to where they belong in the local one."""
        remote, path = self._store.snapshot.remote, self._path(name)
        with path.open("r+b") as file:

            def fetch(span: Span) -> None:
                os.pwrite(file.fileno(), remote.read_range(f"parts/{self._part}/{name}", *span), span[0])

            with writing(path):
                in_threads(fetch, _cut(spans))
        self._store.bytes_fetched += sum(stop - start for start, stop in spans)

    def _path(self, name: str) -> Path:
        return part_folder(self._store.path, self._part) / name


def _joined(spans: list[Span]) -> list[Span]:
    """Return sorted ranges with small gaps closed."""
    joined: list[Span] = []
    for start, stop in spans:
        if joined and start - joined[-1][1] <= _GAP_BYTES:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    return joined


def _cut(spans: list[Span]) -> list[Span]:
    """Return the same ranges in pieces that fit into memory several at a time."""
    pieces = ((begin, stop) for start, stop in spans for begin in range(start, stop, _MOST_BYTES))
    return [(begin, min(begin + _MOST_BYTES, stop)) for begin, stop in pieces]
