"""Catalogs: numbered lists of the parts that count. The highest number wins; none is ever changed."""

import contextlib
import logging
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from relope.errors import OutputError, StoreError
from relope.partial import partial_file
from relope.provenance import pretty, sync_folder
from relope.store.format.content import content_id
from relope.store.format.layout import (
    catalog_folder,
    is_part_id,
    link,
    read_json,
    sealed_parts,
    writing,
)
from relope.store.format.samples import read_samples

_log = logging.getLogger(__name__)
_ATTEMPTS = 100
_NAME = re.compile(r"([1-9][0-9]{0,8})\.json")


@dataclass(frozen=True)
class Catalog:
    """One catalog.

    Attributes:
        number: 0 for the sealed parts of a run that was interrupted before it published any.
        parts: part ids in the order of the rows.
        content_id: root over the samples of these parts; empty for number 0.
    """

    number: int
    parts: tuple[str, ...]
    content_id: str

    @property
    def document(self) -> dict[str, Any]:
        """What its file holds."""
        return {"parts": list(self.parts), "content_id": self.content_id}


def catalog_numbers(store: Path) -> list[int]:
    """Return the numbers of all catalogs, ascending."""
    if not catalog_folder(store).is_dir():
        return []
    matches = (_NAME.fullmatch(path.name) for path in catalog_folder(store).iterdir())
    return sorted(int(match[1]) for match in matches if match)


def read_catalog(store: Path, number: int) -> Catalog:
    """Return one catalog.

    Raises:
        StoreError: it is damaged, or names something that cannot be a part.
    """
    path = catalog_folder(store) / f"{number}.json"
    value = read_json(store, path)
    if not isinstance(value, dict) or set(value) != {"parts", "content_id"}:
        raise StoreError(f"catalog/{number}.json in {store} is damaged: it must hold parts and content_id")
    parts, root = value["parts"], value["content_id"]
    if not isinstance(parts, list) or not isinstance(root, str):
        raise StoreError(f"catalog/{number}.json in {store} is damaged: parts must be a list, content_id text")
    if strange := [part for part in parts if not is_part_id(part)]:
        raise StoreError(f"catalog/{number}.json in {store} names {strange[0]!r}, which is no part id (32 hex digits)")
    if len(set(parts)) < len(parts):
        raise StoreError(f"catalog/{number}.json in {store} names a part twice")
    return Catalog(number, tuple(parts), root)


def newest_catalog(store: Path) -> Catalog:
    """Return the catalog that counts, or the sealed parts on disk when there is none yet."""
    numbers = catalog_numbers(store)
    return read_catalog(store, numbers[-1]) if numbers else Catalog(0, tuple(sealed_parts(store)), "")


def parts_content_id(store: Path, parts: Iterable[str]) -> str:
    """Return the content root of parts; of a sample in several, the first counts."""
    frames = [read_samples(store, part, ("id", "content")) for part in parts]
    if not frames:
        return content_id(())
    kept = pl.concat(frames).unique("id", keep="first")
    return content_id(zip(kept["id"], kept["content"], strict=True))


def publish(store: Path, order: Sequence[str] | None = None) -> Catalog:
    """Write the next catalog with every sealed part, unless the newest one already has them all.

    Args:
        store: the store's folder.
        order: part ids in the order in which new ones are to be listed; others follow, sorted.

    Raises:
        OutputError: the system refuses to write.
    """
    ranks = {part: rank for rank, part in enumerate(order or ())}
    for _ in range(_ATTEMPTS):
        number = max(catalog_numbers(store), default=0)
        listed = read_catalog(store, number).parts if number else ()
        sealed = set(sealed_parts(store))
        for part in set(listed) - sealed:
            _log.warning("part %s of catalog/%d.json is gone from %s: it is no longer listed", part, number, store)
        new = sorted(sealed - set(listed), key=lambda part: (ranks.get(part, len(ranks)), part))
        parts = (*(part for part in listed if part in sealed), *new)
        if number and parts == listed:
            return read_catalog(store, number)
        catalog = Catalog(number + 1, parts, parts_content_id(store, parts))
        if _create(store, catalog):
            return catalog
    raise OutputError(
        f"other processes took each of {_ATTEMPTS} catalog numbers in {store}", hint="run the command again"
    )


def _create(store: Path, catalog: Catalog) -> bool:
    path = catalog_folder(store) / f"{catalog.number}.json"
    with writing(path), contextlib.suppress(FileExistsError):
        path.parent.mkdir(exist_ok=True)
        with partial_file(path) as (descriptor, partial):
            with os.fdopen(descriptor, "wb", closefd=False) as file:
                file.write(pretty(catalog.document))
                file.flush()
                os.fsync(descriptor)
            link(partial, path)
        sync_folder(path.parent)
        return True
    return False
