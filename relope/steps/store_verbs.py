"""What the store steps share: a folder that must be here, layers by number, and how results are told."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from relope.errors import InvalidInputError
from relope.locations import local_folder
from relope.store import human_bytes
from relope.store.share.pull import Pulled
from relope.types import Outcome
from relope.words import counted


def folder_of(ref: str) -> Path:
    """Return the folder of a store.

    Raises:
        InvalidInputError: it is somewhere else.
    """
    folder = local_folder(ref)
    if folder is None:
        raise InvalidInputError(
            f"{ref} is not on this machine",
            hint=f"`relope store ls {ref}` shows it, `relope store pull {ref}` brings it here",
        )
    return folder


def layer_numbers(words: Sequence[str]) -> tuple[int, ...]:
    """Return the block numbers that were given.

    Raises:
        InvalidInputError: one of them is no number.
    """
    try:
        return tuple(int(word) for word in words)
    except ValueError as error:
        raise InvalidInputError(
            f"layers {','.join(words)!r} must be block numbers", hint="e.g. --layers 23,24"
        ) from error


def taken(done: Sequence[Pulled]) -> Outcome:
    """Return what is told of stores that were taken into one."""
    lines = [
        f"{counted(len(each.parts), 'part')} added ({counted(each.n_samples, 'sample')}, {human_bytes(each.n_bytes)}), "
        f"{len(each.kept)} there already → {each.path}"
        for each in done
    ]
    path = done[-1].path
    note = f"Try next: relope store info {path}"
    results = [{**dataclasses.asdict(each), "path": str(each.path)} for each in done]
    payload = results[0] if len(results) == 1 else {"path": results[0]["path"], "sources": results}
    return Outcome(path, not any(each.parts for each in done), "\n".join(lines), payload=payload, note=note)
