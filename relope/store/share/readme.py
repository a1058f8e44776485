"""The card beside what is shared, ``README.md``: nothing that counts hangs on it, and one that people wrote stays."""

import hashlib
import re
from collections.abc import Callable
from typing import Literal

import yaml

from relope.store.format.layout import README
from relope.store.share.remote import Remote, rewrite

Put = Literal["written", "as it was", "another's"]

_MARK = "<!-- made by relope; sha256 of the text above: "
_FRONT = re.compile(r"\A\s*---\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_MOST_BYTES = 1 << 20


def put_readme(remote: Remote, made: Callable[[str | None], str]) -> Put:
    """Write a card where there is none, or one of ours that nobody has changed, or one that says nothing but metadata.

    Args:
        remote: where to.
        made: makes the card, told the licence that the one there states.

    Returns:
        What became of it.
    """
    there = remote.read(README, _MOST_BYTES)
    put: Put = "as it was"

    def changed(shared: bytes | None) -> bytes | None:
        nonlocal put
        text = "" if shared is None else shared.decode(errors="replace")
        if not _may_go(text):
            put = "another's"
            return None
        content = _marked(made(_license(text))).encode()
        put = "as it was" if content == shared else "written"
        return None if content == shared else content

    if there is not None and changed(there.content) is None:
        return put
    rewrite(remote, README, changed)
    return put


def _marked(text: str) -> str:
    return f"{text}\n{_MARK}{hashlib.sha256(text.encode()).hexdigest()} -->\n"


def _may_go(text: str) -> bool:
    """Return whether a card may be replaced: ours as we made it, or one whose text is empty, as a new repository's."""
    ours, mark, _ = text.rpartition(f"\n{_MARK}")
    return (bool(mark) and _marked(ours) == text) or not _FRONT.sub("", text).strip()


def _license(text: str) -> str | None:
    """Return the licence that the metadata of a card state."""
    front = _FRONT.match(text)
    try:
        value = yaml.safe_load(front[1]) if front else None
    except (yaml.YAMLError, RecursionError):
        return None
    stated = value.get("license") if isinstance(value, dict) else None
    return stated if isinstance(stated, str) else None
