"""``thumbnails.parquet`` of a part: a small WebP of each distinct image that its samples show."""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from relope.errors import InvalidInputError, StoreError
from relope.store.format.layout import THUMBNAILS, check_ratio, guard, part_folder

THUMBNAIL_BYTES = 4096
"""Bytes of a thumbnail at most."""

_SCHEMA = {"image": pl.String, "thumbnail": pl.Binary}
_MOST_ROWS = 1 << 20


def check_thumbnail(content: bytes) -> None:
    """Refuse what is no thumbnail that a report may show.

    Raises:
        InvalidInputError: it is too large, or no WebP.
    """
    if len(content) > THUMBNAIL_BYTES or content[:4] != b"RIFF" or content[8:12] != b"WEBP":
        raise InvalidInputError(
            f"a thumbnail of {len(content):,} bytes that begins with {content[:12]!r} is no WebP of at most "
            f"{THUMBNAIL_BYTES:,} bytes"
        )


def write_thumbnails(folder: Path, thumbnails: Mapping[str, bytes]) -> None:
    """Write the thumbnails of a part, image digest → WebP; nothing where there are none."""
    if thumbnails:
        rows = sorted(thumbnails.items())
        frame = pl.DataFrame(rows, schema=_SCHEMA, orient="row")
        frame.write_parquet(folder / THUMBNAILS, compression="uncompressed")


def read_thumbnails(store: Path, part: str) -> dict[str, bytes]:
    """Return image digest → WebP of the images of a part; empty where it keeps none.

    Raises:
        StoreError: the file is damaged, or holds anything but thumbnails.
    """
    path = part_folder(store, part) / THUMBNAILS
    if not path.exists() and not path.is_symlink():
        return {}
    guard(store, path)
    damaged = f"{path.relative_to(store)} in {store} is damaged"
    try:
        n_rows = pl.scan_parquet(path).select(pl.len()).collect().item()
        check_ratio(f"{path.relative_to(store)} in {store}", n_rows * THUMBNAIL_BYTES // 64, path.stat().st_size)
        frame = pl.read_parquet(path) if n_rows <= _MOST_ROWS else pl.DataFrame()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise StoreError(f"{damaged}: {error}") from error
    if dict(frame.schema) != _SCHEMA or frame.null_count().sum_horizontal().sum():
        raise StoreError(f"{damaged}: it must have the columns image and thumbnail, text and bytes")
    thumbnails = dict(frame.rows())
    try:
        for content in thumbnails.values():
            check_thumbnail(content)
    except InvalidInputError as error:
        raise StoreError(f"{damaged}: {error}") from error
    return thumbnails
