"""Tables of rows with images, from the hub or from files, memory-mapped and never decoded here."""

import contextlib
import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from yaml import YAMLError

from relope.errors import InvalidInputError, NotFoundError, reason_of
from relope.extract.data.bounded import IMAGE_BYTES, read_bounded
from relope.extract.data.images import lazy_image
from relope.types import LazyImage

KINDS = {
    "text": ("string", "large_string"),
    "integer": ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
}
Table = Any
"""A ``datasets.Dataset``; the library is imported only where one is opened."""


def snapshot(repository: str, pattern: str, revision: str = "") -> Path:
    """Return the local folder of a hub data set's files that match; its name is the revision.

    Raises:
        NotFoundError: the hub does not have it, it is gated, or the hub cannot be reached.
    """
    import huggingface_hub

    return _fetched(huggingface_hub.snapshot_download, repository, pattern, revision)


@functools.cache
def _fetched(download: Callable[..., str], repository: str, pattern: str, revision: str) -> Path:
    """Ask the hub once a process, so that all splits are of one revision."""
    patterns = ["README.md", pattern]
    try:
        folder = download(repository, repo_type="dataset", revision=revision or None, allow_patterns=patterns)
    except Exception as error:
        raise NotFoundError(
            f"cannot fetch data set {repository}: {reason_of(error)}",
            hint="check the network, accept its terms on the hub and log in, or give your own file: "
            "--dataset FILE.parquet",
        ) from error
    return Path(folder)


def hub_folder(repository: str) -> Path:
    """Return the local folder of a hub data set; its name is the revision that is used from now on."""
    return snapshot(repository, "README.md")


def hub_revision(repository: str) -> dict[str, str]:
    """Return what a hub data set's revision adds to its identity."""
    return {"revision": hub_folder(repository).name}


def hub_license(repository: str) -> str:
    """Return the licence that a hub data set's card states; ``""`` where it states none, or several."""
    from huggingface_hub import DatasetCard

    card = hub_folder(repository) / "README.md"
    if not card.is_file():
        return ""
    with contextlib.suppress(ValueError, YAMLError):  # a card that the Hub would not take either
        stated = DatasetCard.load(card, ignore_metadata_errors=True).data.get("license")
        return stated if isinstance(stated, str) else ""
    return ""


def hub_table(repository: str, folder: str, split: str, columns: Mapping[str, str]) -> Table:
    """Return one split of a hub data set, fetched when it is not in the cache yet.

    Args:
        repository: ``owner/name``.
        folder: where its Parquet files lie, e.g. ``data`` or the configuration's name.
        split: the official name of the split.
        columns: column → ``text``, ``integer``, ``list`` or ``image``: what it must have.

    Raises:
        NotFoundError: it cannot be fetched, or has no such files.
        InvalidInputError: a column is missing or of another type.
    """
    pattern = f"{folder}/{split}-*.parquet"
    local = snapshot(repository, pattern, hub_folder(repository).name)
    files = sorted(local.glob(pattern))
    if not files:
        has = ", ".join(sorted({path.relative_to(local).as_posix() for path in local.rglob("*.parquet")})[:6])
        raise NotFoundError(
            f"data set {repository} has no files {pattern} in {local} (it has: {has or 'no Parquet file'})",
            hint="fetch it again with a network, or give your own file: --dataset FILE.parquet",
        )
    return checked(parquet_table(tuple(map(str, files))), f"{split} of {repository}", columns)


@functools.cache
def parquet_table(files: tuple[str, ...]) -> Table:
    """Return Parquet files as one memory-mapped table whose images stay encoded.

    Raises:
        InvalidInputError: a file is no Parquet.
    """
    import datasets

    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        table = datasets.load_dataset("parquet", data_files={"rows": list(files)}, split="rows")
    except Exception as error:
        raise InvalidInputError(f"{files[0]} cannot be read as Parquet: {_cause(error)}") from error
    return undecoded(table)


def is_empty(path: Path) -> bool:
    """Return whether a Parquet file has no rows, which `parquet_table` takes for damage."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return bool(pq.read_metadata(path).num_rows == 0)
    except (OSError, pa.ArrowException):
        return False


def undecoded(table: Table) -> Table:
    """Return a table whose image columns give ``{"bytes", "path"}`` instead of decoded images."""
    import datasets

    for name, feature in table.features.items():
        if isinstance(feature, datasets.Image):
            table = table.cast_column(name, datasets.Image(decode=False))
        elif isinstance(getattr(feature, "feature", None), datasets.Image):
            table = table.cast_column(name, datasets.List(datasets.Image(decode=False)))
    return table


def label_names(table: Table) -> dict[str, list[str]]:
    """Return column → the names of its classes, of the columns that hold a class's number, or a list of such."""
    import datasets

    features = {column: getattr(feature, "feature", None) or feature for column, feature in table.features.items()}
    return {column: item.names for column, item in features.items() if isinstance(item, datasets.ClassLabel)}


def with_names(cells: Mapping[str, Any], names: Mapping[str, Sequence[str]]) -> Mapping[str, Any]:
    """Return the cells of a row with the name of a class in place of its number; below 0 there is none."""
    return {**cells, **{column: _named(cells[column], names[column]) for column in names}}


def _named(cell: Any, names: Sequence[str]) -> Any:
    if isinstance(cell, list):
        return [_named(item, names) for item in cell]
    if cell is None or not 0 <= cell < len(names):
        return None
    return cell if names[cell] == str(cell) else names[cell]  # classes without names of their own


def _cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def checked(table: Table, what: str, columns: Mapping[str, str]) -> Table:
    """Return a table after making sure of its columns.

    Raises:
        InvalidInputError: one is missing, or of another type.
    """
    for name in columns:
        if name not in table.features:
            has = ", ".join(table.features)
            raise InvalidInputError(f"column {name!r} is missing in {what} (it has: {has}); its layout has changed")
    for name, kind in columns.items():
        feature = table.features[name]
        if not _fits(feature, kind):
            raise InvalidInputError(f"column {name!r} of {what} holds {feature}, not {kind}; its layout has changed")
    return table


def _fits(feature: Any, kind: str) -> bool:
    dtype = str(getattr(feature, "dtype", ""))
    if dtype == "null":
        return True
    if kind == "list":
        return type(feature).__name__ in ("List", "LargeList", "Sequence") or isinstance(feature, list)
    if kind == "image":
        names = getattr(feature, "keys", lambda: ())()
        return type(feature).__name__ == "Image" or {"bytes", "path"} <= set(names)
    return dtype in KINDS[kind]


def cell_image(table: Table, row: int, column: str) -> LazyImage | None:
    """Return the image of a cell, whose bytes are read again when it is opened; None if there is none."""
    return None if table[row][column] is None else lazy_image(_reader(table, row, column))


def _reader(table: Table, row: int, column: str) -> Callable[[], bytes]:
    def read() -> bytes:
        held = table[row][column]
        if held["bytes"] is not None:
            return bytes(held["bytes"])
        return read_bounded(Path(held["path"]), IMAGE_BYTES)

    return read


def limited(table: Table, limit: int | None) -> Sequence[int]:
    """Return the row numbers that a limit leaves."""
    return range(len(table) if limit is None else min(limit, len(table)))
