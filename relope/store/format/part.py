"""Write one part: stream captures into a temporary folder, then seal it by a rename."""

import contextlib
import errno
import os
import shutil
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from relope.errors import InvalidInputError
from relope.provenance import digest, file_digest, sync_folder, write_json
from relope.store.format.claims import claim
from relope.store.format.content import answer_content, sample_content
from relope.store.format.dtypes import from_float32
from relope.store.format.layout import (
    COMMIT,
    GROUP,
    LOCK,
    META,
    SAMPLES,
    SHARD,
    THUMBNAILS,
    part_folder,
    part_id,
    parts_folder,
    writing,
)
from relope.store.format.manifest import FORMAT_VERSION, StoreManifest, array_specs
from relope.store.format.samples import RESERVED, write_samples
from relope.store.format.shard import PLAIN, Encoding, ShardWriter
from relope.store.format.thumbnails import check_thumbnail, write_thumbnails
from relope.types import Capture


def sample_rows(manifest: StoreManifest, capture: Capture, sample: str) -> dict[str, npt.NDArray[Any]]:
    """Return what one capture adds to each array: name → ``[k, columns]`` in the stored dtype.

    Raises:
        InvalidInputError: a layer is absent, or a shape or dtype is not what the manifest says.
    """
    tokens = np.asarray(capture.tokens)
    n_tokens = len(tokens) if tokens.ndim else 0
    rows: dict[str, npt.NDArray[Any]] = {}
    for layer in manifest.layers:
        if layer not in capture.hidden:
            raise InvalidInputError(f"sample {sample!r}: the capture lacks layer {layer} (has {list(capture.hidden)})")
        hidden = capture.hidden[layer]
        if layer in manifest.token_layers:
            rows[f"hidden/{layer}"] = hidden
        rows[f"last/{layer}"] = hidden[-1:]
    answer = np.asarray(capture.answer)[None]
    rows["answer"] = from_float32(answer, manifest.dtype) if answer.dtype == np.float32 else answer
    rows["tokens"] = tokens
    for name, spec in array_specs(manifest).items():
        wanted = (n_tokens if spec.per_token else 1, spec.columns)
        if rows[name].shape != wanted or rows[name].dtype != spec.stored or not n_tokens:
            raise InvalidInputError(
                f"{name} of sample {sample!r} is {rows[name].dtype} {rows[name].shape}, "
                f"must be {spec.stored} {wanted} with at least one token"
            )
    return rows


class PartWriter:
    """A part being written; a context manager that seals on a clean exit and removes it otherwise.

    The bytes depend on the samples and captures alone: no clock, host name or process id is kept.
    """

    def __init__(
        self, store: Path, manifest: StoreManifest, sample_ids: Sequence[str], encoding: Encoding = PLAIN
    ) -> None:
        """Plan a part of these samples; nothing is written before ``with``.

        Raises:
            InvalidInputError: no ids, one twice, or one that is no text.
        """
        if not sample_ids or len(set(sample_ids)) < len(sample_ids):
            raise InvalidInputError(f"a part needs one or more samples, each once (got {len(sample_ids)} ids)")
        if strange := [name for name in sample_ids if not isinstance(name, str) or not name]:
            raise InvalidInputError(f"sample id {strange[0]!r} must be text of one or more characters")
        self.id = part_id(manifest.recipe_id, sample_ids)
        self._store, self._manifest, self._ids = store, manifest, list(sample_ids)
        self._rows: list[dict[str, Any]] = []
        self._thumbnails: dict[str, bytes] = {}
        self._arrays: dict[str, ShardWriter] = {}
        self._folder = part_folder(store, self.id)
        self._lock = -1
        self._encoding = encoding
        # One hashes the sample and one the file while the caller's thread writes: the hashes of hidden
        # states take as long as the disk does.
        self._threads = ThreadPoolExecutor(2, "relope-hash", initializer=_give_way)

    def __enter__(self) -> Self:
        """Claim the temporary folder.

        Raises:
            OutputError: the system refuses to write.
        """
        try:
            with writing(self._folder):
                self._folder, self._lock = claim(self._store, self.id)
                for name, spec in array_specs(self._manifest).items():
                    self._arrays[name] = ShardWriter(self._folder / name, spec, self._encoding, self._threads)
        except BaseException:
            self._discard()
            raise
        return self

    def append(
        self,
        samples: Sequence[Mapping[str, Any]],
        captures: Sequence[Capture] | None = None,
        thumbnails: Mapping[str, bytes] | None = None,
    ) -> None:
        """Append samples, in the order of the ids that the part was made for.

        Args:
            samples: one row each for ``samples.parquet``, with at least ``id``.
            captures: what the model left behind, one a sample; None in a store of answers only.
            thumbnails: image digest → WebP, of images that these samples show.

        Raises:
            InvalidInputError: a row or capture does not fit.
            OutputError: the disk is full or read-only.
        """
        for picture in (thumbnails or {}).values():
            check_thumbnail(picture)
        self._thumbnails.update(thumbnails or {})
        if (captures is None) != self._manifest.answers_only:
            raise InvalidInputError("captures go with the layers of a store: one that keeps answers only takes none")
        kept: Sequence[Capture | None] = [None] * len(samples) if captures is None else captures
        for sample, capture in zip(samples, kept, strict=True):
            expected = self._ids[len(self._rows)] if len(self._rows) < len(self._ids) else "no more samples"
            if sample.get("id") != expected:
                raise InvalidInputError(f"part {self.id} got sample {sample.get('id')!r}, expected {expected!r}")
            if taken := RESERVED & set(sample):
                raise InvalidInputError(f"sample columns {sorted(taken)} are the store's own; rename them")
            ours = self._keep(expected, capture) if capture else _answer_alone(sample)
            self._rows.append({**sample, **ours})

    def _keep(self, sample: str, capture: Capture) -> dict[str, Any]:
        """Append the states of a sample; return the columns of ours that say where they are."""
        rows = sample_rows(self._manifest, capture, sample)
        span = {"first_token": self._arrays["tokens"].n_rows, "n_tokens": len(rows["tokens"])}
        content = self._threads.submit(sample_content, self._manifest, rows)
        try:
            with writing(self._folder):
                for name, values in rows.items():
                    self._arrays[name].append(values)
        finally:
            digested = content.result()  # the capture is the caller's again once this returns
        return {**span, "content": digested}

    @property
    def contents(self) -> list[str]:
        """Content digests of the samples appended so far."""
        return [row["content"] for row in self._rows]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Seal the part, or remove it when the block or the sealing failed."""
        try:
            if kind is None:
                with writing(self._folder):
                    self._seal()
        finally:
            self._discard()

    def _seal(self) -> None:
        if len(self._rows) < len(self._ids):
            raise InvalidInputError(f"part {self.id} got {len(self._rows)} of its {len(self._ids)} samples")
        n_tokens = self._arrays["tokens"].n_rows if self._arrays else 0
        digests = {f"{name}/{SHARD}": array.seal() for name, array in self._arrays.items()}
        for group in (".", "hidden", "last") if self._arrays else (".",):
            write_json(self._folder / group / META, GROUP)
        write_samples(self._folder, self._rows)
        write_thumbnails(self._folder, self._thumbnails)
        _sync_tree(self._folder)
        commit = {
            "format_version": FORMAT_VERSION,
            "part": self.id,
            "n_samples": len(self._rows),
            "n_tokens": n_tokens,
            "samples": digest(self._ids),
            "files": _file_records(self._folder, digests),
        }
        write_json(self._folder / COMMIT, commit)
        self._rename()

    def _rename(self) -> None:
        sealed = part_folder(self._store, self.id)
        try:
            self._folder.rename(sealed)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            return  # another process has sealed the same part: keep theirs
        (sealed / LOCK).unlink()
        sync_folder(parts_folder(self._store))

    def _discard(self) -> None:
        for array in self._arrays.values():
            array.abort()
        self._threads.shutdown()
        if self._lock >= 0:
            shutil.rmtree(self._folder, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1


def _answer_alone(sample: Mapping[str, Any]) -> dict[str, Any]:
    return {"first_token": 0, "n_tokens": 0, "content": answer_content(sample)}


def _give_way() -> None:
    """Let whoever computes the states have the processor first (Linux gives each thread its own niceness)."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)


def _file_records(folder: Path, digests: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != LOCK)
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    return {
        name: {"bytes": path.stat().st_size, "sha256": digests.get(name) or file_digest(path)}
        for name, path in names.items()
    }


def _sync_tree(folder: Path) -> None:
    for path in (folder / SAMPLES, folder / THUMBNAILS):
        if path.exists():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    for inner in (folder, *folder.rglob("*")):
        if inner.is_dir():
            sync_folder(inner)
