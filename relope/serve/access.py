"""Who may ask: keys compared in constant time, and without a key only this machine under its own names."""

import base64
import binascii
import hmac
import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from relope.errors import InvalidInputError, NotFoundError
from relope.redact import hide
from relope.serve.problems import Problem

KEY_VARIABLE = "RELOPE_API_KEY"
ADMIN_VARIABLE = "RELOPE_ADMIN_KEY"
_SHORTEST = 16
_MOST_BYTES = 4096
_LOCAL = frozenset({"localhost", "127.0.0.1", "[::1]"})
KEY_HEADER = "x-relope-api-key"


@dataclass(frozen=True)
class Access:
    """What opens the server.

    Attributes:
        key: of clients; ``""`` where none is needed.
        admin_key: of who may change the threshold; ``""`` where nobody may.
    """

    key: str = field(default="", repr=False)
    admin_key: str = field(default="", repr=False)

    def check(self, headers: Mapping[str, str]) -> None:
        """Refuse who has no key. Without one, refuse names that a page of the web could reach this machine by.

        Raises:
            Problem: 401, or 403 for another name.
        """
        if self.key:
            if not _among(headers, self.key, self.admin_key):
                raise Problem(401, "the API key is missing or wrong", "invalid_api_key",
                              headers={"www-authenticate": 'Basic realm="relope"'})  # fmt: skip
        elif _name(headers.get("host", "")) not in _LOCAL:
            raise Problem(403, "without an API key, only this machine is answered, under localhost", "host")

    def check_admin(self, headers: Mapping[str, str]) -> None:
        """Refuse who has no admin key.

        Raises:
            Problem: 401, or 403 where there is none.
        """
        if not self.admin_key:
            raise Problem(403, "no admin key is set, so nobody may do this", "no_admin_key")
        if not _among(headers, self.admin_key):
            raise Problem(401, "the admin key is missing or wrong", "invalid_api_key")

    def others_authorization(self, headers: Mapping[str, str]) -> str:
        """Return a client's Authorization header, ``""`` where it is a key of this server: that one never leaves."""
        given = headers.get("authorization", "")
        return "" if _among({"authorization": given}, self.key, self.admin_key) else given


def _among(headers: Mapping[str, str], *keys: str) -> bool:
    """Return whether one of some keys is given; how long that takes says nothing of them."""
    matches = False
    for given in _given(headers):
        for key in keys:
            matches |= bool(key) & hmac.compare_digest(given, key.encode())
    return matches


def _given(headers: Mapping[str, str]) -> list[bytes]:
    """Return the keys of a request: a bearer token, our own header, or the password that a browser asks for."""
    kind, _, value = headers.get("authorization", "").partition(" ")
    given = [headers.get(KEY_HEADER, "").encode()]
    if kind.lower() == "bearer":
        given.append(value.strip().encode())
    if kind.lower() == "basic":
        try:
            given.append(base64.b64decode(value, validate=True).partition(b":")[2])
        except (binascii.Error, ValueError):
            return given
    return given


def _name(host: str) -> str:
    """Return the name in a Host header, without its port."""
    if host.startswith("["):
        return host[: host.find("]") + 1].lower()
    return host.partition(":")[0].lower()


def read_key(file: Path | None, variable: str) -> str:
    """Return a key from a file, else from the environment, else ``""``.

    Raises:
        NotFoundError: there is no such file.
        InvalidInputError: it is no key: empty, short, of several lines, or not ASCII.
    """
    if file is None:
        key, where = os.environ.get(variable, ""), variable
        if not key:
            return ""
    else:
        try:
            with file.open("rb") as opened:
                key, where = opened.read(_MOST_BYTES).decode("ascii").strip(), str(file)
        except OSError as error:
            raise NotFoundError(f"no key at {file}: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise InvalidInputError(f"{file} holds no key of ASCII characters") from error
    if len(key) < _SHORTEST or not key.isprintable() or not key.isascii() or " " in key:
        raise InvalidInputError(
            f"the key in {where} must have at least {_SHORTEST} printable ASCII characters in one line",
            hint="e.g. openssl rand -hex 24 > relope.key",
        )
    hide(key)
    return key


def check_address(host: str, key: str) -> None:
    """Refuse to listen to other machines without a key.

    Raises:
        InvalidInputError: the address is not one of this machine alone.
    """
    if key or host == "localhost":
        return
    try:
        alone = ipaddress.ip_address(host).is_loopback
    except ValueError:
        alone = False
    if not alone:
        raise InvalidInputError(
            f"{host} lets other machines in, which needs an API key",
            hint=f"set {KEY_VARIABLE} or --api-key-file, or drop --host",
        )
