"""Digests of what a store holds, whatever its parts, order, codec or chunks are."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from relope.provenance import digest
from relope.store.format.manifest import StoreManifest, array_specs


def content_names(manifest: StoreManifest) -> tuple[str, ...]:
    """Return the arrays that make up a sample's content, in the order in which they are hashed.

    ``last/<layer>`` counts only where no ``hidden/<layer>`` has the same row.
    """
    specs = array_specs(manifest)
    return tuple(name for name in specs if not (name.startswith("last/") and f"hidden/{name[5:]}" in specs))


def sample_content(manifest: StoreManifest, rows: Mapping[str, npt.NDArray[Any]]) -> str:
    """Return the sha256 (hex) of one sample's uncompressed rows.

    Each array goes in as the line ``<name> <logical dtype> <rows>x<columns>`` and then its
    little-endian bytes, so that no two different samples give the same stream.

    Args:
        manifest: of the store.
        rows: array name → ``[k, columns]``; names beyond `content_names` are ignored.
    """
    specs, total = array_specs(manifest), hashlib.sha256()
    for name in content_names(manifest):
        values = np.ascontiguousarray(rows[name])
        total.update(f"{name} {specs[name].logical} {len(values)}x{values.shape[1]}\n".encode())
        total.update(values.data)
    return total.hexdigest()


def answer_content(row: Mapping[str, Any]) -> str:
    """Return the sha256 (hex) of a sample of which nothing but its row is kept.

    Columns without a value count as if they were not there, and every number as a float: a part's table gives
    each column one type, and other parts need not have the same columns.

    Args:
        row: of ``samples.parquet``, without the store's own columns.
    """
    return digest({name: _as_kept(value) for name, value in row.items() if value is not None})


def _as_kept(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_as_kept(inner) for inner in value]
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def content_id(samples: Iterable[tuple[str, str]]) -> str:
    """Return the root over samples' ``(id, content)``; their order does not matter."""
    return digest(sorted([name, content] for name, content in samples))
