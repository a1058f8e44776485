"""Halves of characters: lone surrogates, which JSON can hold and no text can."""

import re
from collections.abc import Mapping
from typing import Any

_HALF = re.compile("[\ud800-\udfff]")
TORN = "torn"
"""Key of a sample's ``meta``: which column held half of a character. (Not ``flaw``, which is one of the answer.)"""

REPLACEMENT = "\ufffd"


def half_in(value: Any) -> str:
    """Return the first half of a character in a text, or in lists or mappings of texts, as it is written, or ``""``."""
    if isinstance(value, str):
        match = _HALF.search(value)
        return f"\\u{ord(match[0]):04x}" if match else ""
    held = value.values() if isinstance(value, Mapping) else value
    return next(filter(None, map(half_in, held)), "") if isinstance(value, (list, tuple, Mapping)) else ""


def whole(value: Any) -> Any:
    """Return a value whose texts have `REPLACEMENT` in the place of halves of characters."""
    if isinstance(value, str):
        return _HALF.sub(REPLACEMENT, value)
    if isinstance(value, Mapping):
        return {key: whole(item) for key, item in value.items()}
    return [whole(item) for item in value] if isinstance(value, (list, tuple)) else value
