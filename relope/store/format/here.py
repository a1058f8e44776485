"""Paths of this machine that a store records (data set, checkpoint, captions): kept beside it, never shared.

What a manifest says of them is the name alone; ``here.json`` has the path, for who opens the model or the data again.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from relope.store.format.layout import here_path, read_object, write_object

_STARTS = ("/", "./", "../", "~", "\\\\")


def is_path(value: object) -> bool:
    """Tell whether a recorded value is a path of this machine, and no name, hub id or URI."""
    return isinstance(value, str) and (value.startswith(_STARTS) or value[1:3] in (":\\", ":/"))


def names_only(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is recorded with the last step of each path in its place."""
    return {key: Path(value.replace("\\", "/")).name if is_path(value) else value for key, value in recorded.items()}


def keep_here(store: Path, recorded: Mapping[str, Any]) -> None:
    """Keep the paths among what is recorded beside a store, unless some are kept already."""
    paths = {key: value for key, value in recorded.items() if is_path(value)}
    if paths and not here_path(store).exists():
        write_object(store, here_path(store), paths)


def with_paths(store: Path, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is recorded with the paths that are kept beside the store."""
    kept = {key: value for key, value in read_object(store, here_path(store)).items() if is_path(value)}
    return {**recorded, **{key: value for key, value in kept.items() if key in recorded}}
