"""A fitted router on disk: one safetensors file and one JSON file, never pickle."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from relope.errors import RelopeError, StoreError
from relope.provenance import file_digest, write_bytes, write_json
from relope.seals import first_line, read_plain

_WEIGHT_BYTES = 16 << 30
"""More no router has: its file is read whole."""

Tensors = dict[str, npt.NDArray[Any]]


def save_state(folder: Path, settings: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write ``probe.safetensors``, then ``probe.json``."""
    plain = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    write_bytes(folder / "probe.safetensors", save_tensors(plain))
    write_json(folder / "probe.json", dict(settings))


def load_state(folder: Path) -> tuple[dict[str, Any], Tensors]:
    """Read what ``save_state`` wrote.

    Raises:
        StoreError: a file is missing, is no plain file, or is damaged.
    """
    try:
        settings = json.loads(read_plain(folder / "probe.json"))
        tensors = load_tensors(read_plain(folder / "probe.safetensors", _WEIGHT_BYTES))
    except (RelopeError, ValueError, RecursionError, SafetensorError) as error:
        raise damaged(folder, first_line(error)) from error
    if not isinstance(settings, dict):
        raise damaged(folder, "probe.json must hold an object")
    return settings, tensors


def check_shapes(folder: Path, tensors: Tensors, shapes: Mapping[str, Sequence[object]]) -> None:
    """Hold what settings say of a network against its weights, before memory is taken for it.

    Args:
        folder: the router's.
        tensors: its weights.
        shapes: name → shape, as the settings say.

    Raises:
        StoreError: a tensor is absent or has another shape.
    """
    for name, shape in shapes.items():
        has = list(tensors[name].shape) if name in tensors else "absent"
        if has != list(shape):
            raise damaged(folder, f"{name} is {has}, by its settings {list(shape)!s:.80}")


def check_words(folder: Path, words: object) -> list[str]:
    """Return a vocabulary that settings hold.

    Raises:
        StoreError: it is no list of distinct texts.
    """
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise damaged(folder, "its vocabulary must be a list of texts")
    if len(set(words)) < len(words) or not words:
        raise damaged(folder, "its vocabulary is empty or holds a word twice")
    return words


def records_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Return name → size and sha256 of every file below a router's folder."""
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: {"bytes": path.stat().st_size, "sha256": file_digest(path)} for name, path in files.items()}


def check_records(folder: Path, records: Mapping[str, Any]) -> None:
    """Hold a router's files against what was written of them.

    Raises:
        StoreError: one is missing or is another one.
    """
    for name, record in records.items():
        path = folder / name
        if path.is_symlink() or not path.is_file() or ".." in Path(name).parts:
            raise damaged(folder, f"{name} is missing or no plain file")
        said = (record.get("bytes"), record.get("sha256")) if isinstance(record, dict) else ()
        if said != (path.stat().st_size, file_digest(path)):
            raise damaged(folder, f"{name} is not what was written")


def damaged(folder: Path, why: str) -> StoreError:
    """Build the error for a router that cannot be used."""
    return StoreError(f"{folder} is no fitted router, or a damaged one ({why})", hint="fit it again")
