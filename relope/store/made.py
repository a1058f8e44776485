"""``made.json``: the command lines that made a store, when, and what they took; no number of the store hangs on it."""

import math
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


@dataclass(frozen=True)
class Took:
    """What the answers of a run took.

    It stands here and in no part, since the same specification makes the same parts: a clock would make them differ.

    Attributes:
        samples: that it answered.
        seconds: of computation for all of them; what the model waited for data is not in it, where the engine can tell.
        seconds_beside: of these, for sampled traces and p(True); None where the engine cannot tell.
        device: where.
        engine: that computed.
        batch_size: samples at a time.
    """

    samples: int
    seconds: float
    seconds_beside: float | None
    device: str
    engine: str
    batch_size: int


@dataclass(frozen=True)
class MadeBy:
    """One run that added to a store.

    Attributes:
        date: when, in UTC.
        command: the command line, without anybody's folders.
        relope: version that ran.
        took: what its answers took; None of a run that answered nothing, and of an older relope's.
    """

    date: str
    command: str
    relope: str = __version__
    took: Took | None = None


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
        entries = [MadeBy(**{**entry, "took": _took(entry.get("took"))}) for entry in value["runs"]]
    except (LookupError, TypeError, AttributeError) as error:
        raise StoreError(f"{where} is damaged: {error}", hint="delete it: no number hangs on it") from error
    words = [word for entry in entries for word in (entry.date, entry.command, entry.relope)]
    words += [word for entry in entries if entry.took for word in (entry.took.device, entry.took.engine)]
    whole = all(isinstance(word, str) and len(word) <= _WORDS for word in words)
    if len(entries) > _MOST or not whole or not all(_is_sound(entry.took) for entry in entries):
        raise StoreError(f"{where} is damaged: it must hold dates, command lines and seconds", hint="delete it")
    return entries


def _took(value: Any) -> Took | None:
    return None if value is None else Took(**value)


def _is_sound(took: Took | None) -> bool:
    if took is None:
        return True
    seconds = [took.seconds, took.seconds if took.seconds_beside is None else took.seconds_beside]
    return all(type(n) is int and n > 0 for n in (took.samples, took.batch_size)) and all(
        isinstance(value, (int, float)) and math.isfinite(value) and value >= 0 for value in seconds
    )


def made_bytes(entries: Sequence[MadeBy]) -> bytes:
    """Return the content of such a file: every run once, oldest first."""
    once = sorted(set(entries), key=lambda entry: (entry.date, entry.command, entry.relope, str(entry.took)))
    return sealed_json({"runs": [_entry(entry) for entry in once[-_MOST:]]})


def _entry(entry: MadeBy) -> dict[str, Any]:
    """Return a run as JSON values; what took no seconds is written as older versions read it."""
    value = asdict(entry)
    return value if entry.took else {key: each for key, each in value.items() if key != "took"}


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
    return [_entry(entry) for entry in read_made(store)]
