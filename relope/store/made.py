"""``made.json``: the command lines that made a store, and when; told, never read for a number."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from relope.errors import StoreError
from relope.partial import alone
from relope.provenance import write_bytes
from relope.seals import opened_json, sealed_json
from relope.store.format.layout import check_way, read_small
from relope.version import __version__

MADE = "made.json"
_MOST = 10_000
_WORDS = 20_000


@dataclass(frozen=True, order=True)
class MadeBy:
    """One run that added to a store.

    Attributes:
        date: when, in UTC.
        command: the command line, without anybody's folders.
        relope: version that ran.
    """

    date: str
    command: str
    relope: str = __version__


def read_made(store: Path) -> list[MadeBy]:
    """Return what made the store in a folder, oldest first; nothing where an older relope did.

    Raises:
        StoreError: the file is damaged, or lies behind a symbolic link.
    """
    path = store / MADE
    if not path.exists() and not path.is_symlink():
        return []
    return parse_made(read_small(store, path), f"{MADE} in {store}")


def parse_made(content: bytes, where: str) -> list[MadeBy]:
    """Return what the bytes of such a file say.

    Raises:
        StoreError: they are damaged.
    """
    value, _ = opened_json(content, where)
    try:
        entries = [MadeBy(**entry) for entry in value["runs"]]
    except (LookupError, TypeError) as error:
        raise StoreError(f"{where} is damaged: {error}", hint="delete it: no number hangs on it") from error
    words = [word for entry in entries for word in asdict(entry).values()]
    if len(entries) > _MOST or not all(isinstance(word, str) and len(word) <= _WORDS for word in words):
        raise StoreError(f"{where} is damaged: it must hold dates and command lines", hint="delete it")
    return entries


def made_bytes(entries: Sequence[MadeBy]) -> bytes:
    """Return the content of such a file: every run once, oldest first."""
    return sealed_json({"runs": [asdict(entry) for entry in sorted(set(entries))[-_MOST:]]})


def note_made(store: Path, entries: Sequence[MadeBy]) -> bool:
    """Add runs to what made the store in a folder; return whether any is new."""
    with alone(store):
        known = read_made(store)
        if set(entries) <= set(known):
            return False
        check_way(store, store / MADE)
        write_bytes(store / MADE, made_bytes([*known, *entries]))
    return True


def made_json(store: Path) -> list[dict[str, Any]]:
    """Return what made the store in a folder as JSON values."""
    return [asdict(entry) for entry in read_made(store)]
