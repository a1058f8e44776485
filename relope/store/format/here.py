"""Paths of this machine that a store records (data set, checkpoint, captions): kept beside it, never shared.

What a manifest says of them is the name alone; ``here.json`` has the path, for who opens the model or the data again.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from relope.locations import TEXTS, is_path, named
from relope.store.format.layout import here_path, read_object, write_object


def keep_here(store: Path, recorded: Mapping[str, Any]) -> None:
    """Keep the paths among what is recorded beside a store, unless some are kept already."""
    paths = _paths_of({key: value for key, value in recorded.items() if key not in TEXTS})
    if paths and not here_path(store).exists():
        write_object(store, here_path(store), paths)


def with_paths(store: Path, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is recorded with the paths that are kept beside the store.

    A model is called by its name even so, since scores, reports and bundles are told it; ``source`` says where it is.
    """
    kept = _paths_of({key: value for key, value in read_object(store, here_path(store)).items() if key not in TEXTS})
    whole = _laid_over(recorded, kept)
    return {**whole, "model": named(whole["model"])} if isinstance(whole.get("model"), str) else whole


def _paths_of(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return the paths among what is recorded, and in the objects right within it, under their keys."""
    inner = {
        key: {name: path for name, path in value.items() if is_path(path)}
        for key, value in recorded.items()
        if isinstance(value, Mapping)
    }
    paths = {key: value for key, value in recorded.items() if is_path(value)}
    return {**paths, **{key: value for key, value in inner.items() if value}}


def _laid_over(recorded: Mapping[str, Any], kept: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is recorded, with the paths in the place of names; of another shape they are nothing."""
    both = {key: (recorded[key], value) for key, value in kept.items() if key in recorded}
    inner = {
        key: {**had, **{name: path for name, path in value.items() if name in had}}
        for key, (had, value) in both.items()
        if isinstance(had, Mapping) and isinstance(value, Mapping)
    }
    return {**recorded, **{key: value for key, (_, value) in both.items() if isinstance(value, str)}, **inner}
