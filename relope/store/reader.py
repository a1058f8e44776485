"""Open a store and read it at the speed of the disk."""

import collections
import functools
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from relope.errors import InvalidInputError, StoreError
from relope.locations import is_uri
from relope.store.format.arrays import ArrayReader, open_array
from relope.store.format.catalog import Catalog, newest_catalog
from relope.store.format.codec import Scratch
from relope.store.format.content import content_id
from relope.store.format.index import SampleIndex, build_index
from relope.store.format.layout import COMMIT, block_folder, part_folder
from relope.store.format.manifest import ArraySpec, StoreManifest, array_specs, read_manifest
from relope.store.format.thumbnails import read_thumbnails
from relope.store.rows import RowReader

_MAPPED_ARRAYS = 256
"""Arrays that are kept open: a large store has more parts than a process may have open files."""

_PICTURED_PARTS = 16
"""Parts whose thumbnails are kept in memory: up to 4 MiB each."""


class ActivationStore(RowReader):
    """A store open for reading. Opening reads the manifest and the catalog, never the arrays.

    Several threads may read from one store at once.

    Attributes:
        path: the store's folder.
        manifest: what the store is.
        parts: ids of the parts that count, in the order of the rows.
    """

    def __init__(
        self, path: Path, manifest: StoreManifest, catalog: Catalog, *, verify: bool = True, keep_rows: bool = False
    ) -> None:
        """Use `relope.store.open_store` instead."""
        super().__init__(keep_rows)
        self.path = path
        self.label = str(path)
        self.manifest = manifest
        self.parts = catalog.parts
        self._catalog, self._verify = catalog, verify
        self._specs = array_specs(manifest)
        self._arrays: dict[tuple[int, str], ArrayReader] = {}
        self._mapped: collections.OrderedDict[tuple[int, str], None] = collections.OrderedDict()
        self._scratch = Scratch()
        self._thumbnails: dict[int, dict[str, bytes]] = {}
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path | str, *, verify: bool = True, keep_rows: bool = False) -> Self:
        """Open the store in a folder of this machine, as `relope.store.open_store` does.

        Raises:
            InvalidInputError: it is a URI.
            NotFoundError: nothing is at the path.
            StoreError: it is no store, or the catalog is damaged or names a part that is absent.
        """
        if is_uri(path):
            raise InvalidInputError(f"{path} is a URI: open_store opens it")
        path = Path(path)
        manifest = read_manifest(path)
        catalog = newest_catalog(path)
        for part in catalog.parts:
            if not (part_folder(path, part) / COMMIT).is_file():
                raise StoreError(
                    f"part {part} of catalog/{catalog.number}.json is not in {path}",
                    hint="extract again: only what is missing is made anew",
                )
        return cls(path, manifest, catalog, verify=verify, keep_rows=keep_rows)

    def __reduce__(self) -> tuple[Any, ...]:
        """Be opened anew where it is unpickled, as in a spawned worker: maps and locks stay with a process."""
        keep_rows = self._kept_rows is not None
        return functools.partial(type(self).open, verify=self._verify, keep_rows=keep_rows), (self.path,)

    def __enter__(self) -> Self:
        """Return the store."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the store."""
        self.close()

    def close(self) -> None:
        """Release the mapped files and the buffers, once no array that views them is left."""
        with self._lock:
            self._arrays.clear()
            self._mapped.clear()
        self._buffers.clear()
        self._scratch = Scratch()

    @property
    def recipe_id(self) -> str:
        """Hash of the identity."""
        return self.manifest.recipe_id

    @functools.cached_property
    def content_id(self) -> str:
        """Root over the contents of the samples.

        Raises:
            StoreError: the catalog says another.
        """
        root = content_id(zip(self.samples["id"], self.samples["content"], strict=True))
        if self._catalog.content_id not in ("", root):
            number = self._catalog.number
            raise StoreError(f"catalog/{number}.json of {self.label} does not agree with the samples of its parts")
        return root

    @functools.cached_property
    def index(self) -> SampleIndex:
        """Which samples there are and where their rows lie; read on first use."""
        return build_index(self.path, self.parts, self.recipe_id)

    def thumbnails_of_part(self, number: int) -> Mapping[str, bytes]:
        """Return image digest → WebP of the part of that number, read on first use."""
        if number not in self._thumbnails:
            if len(self._thumbnails) >= _PICTURED_PARTS:
                self._thumbnails.clear()
            self._thumbnails[number] = self._read_thumbnails(self.parts[number])
        return self._thumbnails[number]

    def _read_thumbnails(self, part: str) -> dict[str, bytes]:
        return read_thumbnails(self.path, part)

    def block_folder(self, layer: int) -> Path:
        """Return where the weights of block ``layer`` are, if the store has them."""
        return block_folder(self.path, layer)

    def save(self, name: str) -> None:
        """Make grades that were written below `path` part of the store; a local one has them already."""

    def array(self, number: int, name: str) -> ArrayReader:
        """Return an array of the part of that number, opened on first use."""
        key = number, name
        with self._lock:
            if key not in self._arrays:
                spec = self._specs[name]
                counts = self.index.part_tokens if spec.per_token else self.index.part_samples
                self._arrays[key] = self._open_array(self.parts[number], spec, counts[number])
            self._mapped[key] = None
            self._mapped.move_to_end(key)
            if len(self._mapped) > _MAPPED_ARRAYS:
                oldest, _ = self._mapped.popitem(last=False)
                self._arrays[oldest].release()
            return self._arrays[key]

    def _open_array(self, part: str, spec: ArraySpec, n_rows: int) -> ArrayReader:
        return open_array(self.path, part, spec, n_rows, verify=self._verify, scratch=self._scratch)
