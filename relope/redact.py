"""Keys and passwords are never printed: every message of ours, and what others say in it, goes through here."""

import base64
import json
import os
import re
from urllib.parse import quote

SHOWN = "…"
"""What stands in the place of a secret."""

_USER = re.compile(r"(?<=://)[^/\s@'\"]*@(?=[^\s/@])", re.IGNORECASE)
"""``user:password@`` of an address."""

_QUERY = re.compile(r"([?&][^=&#\s]*(?:key|token|secret|sig|passw)[^=&#\s]*=)[^&#\s'\"]+", re.IGNORECASE)
"""A key in the query of an address: ``?key=…``."""

_BEARER = re.compile(r"\b(Bearer|Basic)\s+[\w.~+/=-]{8,}", re.IGNORECASE)
_NAMES = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)
_SHORTEST = 8
"""Shorter values of such variables are words, which messages may hold for other reasons."""

_hidden: set[str] = set()


def hide(secret: str) -> None:
    """Keep a secret out of every message from now on, in any spelling that a server might echo.

    Args:
        secret: e.g. an API key; one of less than four letters would hide half of every message.
    """
    if len(secret) > 3:
        encoded = base64.b64encode(secret.encode()).decode()
        _hidden.update((secret, json.dumps(secret)[1:-1], repr(secret)[1:-1], quote(secret, safe=""), encoded))


def redacted(text: str) -> str:
    """Return a text without the secrets that are known: hidden ones, the environment's, and those of addresses."""
    environment = {value for name, value in os.environ.items() if _NAMES.search(name) and len(value) >= _SHORTEST}
    for secret in sorted(_hidden | environment, key=len, reverse=True):
        if not os.path.isabs(secret):  # a variable may name the file of a key
            text = text.replace(secret, SHOWN)
    return _BEARER.sub(rf"\1 {SHOWN}", _USER.sub(f"{SHOWN}@", without_keys(text)))


def without_keys(text: str) -> str:
    """Return a text without the keys in the queries of its addresses."""
    return _QUERY.sub(rf"\1{SHOWN}", text)
