"""Captions from any OpenAI-compatible endpoint, over plain HTTP of the standard library."""

import base64
import http.client
import io
import json
import os
import re
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from relope.errors import InvalidInputError, NotFoundError, OutputError
from relope.redact import hide, redacted
from relope.types import LazyImage

ATTEMPTS = 4
TIMEOUT_S = 120.0
LONGEST_WAIT_S = 60.0
_AGAIN = (408, 429, 500, 502, 503, 504)
_REFUSED = (400, 413, 415, 422)
_ANSWER_BYTES = 4 << 20
_REASON_BYTES = 64 << 10
_SHOWN = 200
_SECONDS = re.compile(r"[0-9]{1,9}")
_KEPT = "what was captioned is kept; the same command goes on from there"
"""The hint of everything that ends a run."""

_COMPLETIONS = "/chat/completions"
_EXAMPLE = "e.g. --endpoint http://localhost:8000/v1"


class Refused(OutputError):
    """The server does not take a request: perhaps this image alone, perhaps any."""


@dataclass(frozen=True)
class Endpoint:
    """Where captions are asked for.

    Attributes:
        url: of the chat completions, without user and password.
        model: its name there.
        authorization: what is sent in the header of that name, or ``""``.
    """

    url: str
    model: str
    authorization: str = field(default="", repr=False)


def open_endpoint(url: str, model: str, key_env: str | None) -> Endpoint:
    """Return an endpoint by its base URL, e.g. ``http://localhost:8000/v1``.

    Raises:
        InvalidInputError: it is no web address, or the key could not be sent.
        NotFoundError: the environment has no such key.
    """
    path, user = _address(url)
    authorization = f"Basic {base64.b64encode(user.encode()).decode()}" if user else ""
    if key_env:
        authorization = f"Bearer {_key(key_env)}"
    return Endpoint(path, model, authorization)


def _address(url: str) -> tuple[str, str]:
    """Return the address of the completions without user and password, and these; no message will hold them."""
    try:
        parts = urlsplit(url.strip())
        port, host = parts.port, parts.hostname
        host = host and host.encode("idna").decode()
    except ValueError as error:
        raise InvalidInputError(f"endpoint {url!r} is no web address: {error}", hint=_EXAMPLE) from error
    if parts.scheme not in ("http", "https") or not host or any(ord(letter) < 33 for letter in url.strip()):
        raise InvalidInputError(f"endpoint {url!r} is no web address", hint=_EXAMPLE)
    user, _, place = parts.netloc.rpartition("@")
    if port == 0:
        raise InvalidInputError(f"endpoint {url!r} has the port 0", hint=_EXAMPLE)
    hide(unquote(user.partition(":")[2]))
    path = f"{parts.path.rstrip('/').removesuffix(_COMPLETIONS)}{_COMPLETIONS}"
    return urlunsplit((parts.scheme, place, path, parts.query, "")), unquote(user)


def _key(variable: str) -> str:
    """Return an API key of the environment, without the line break that often ends one.

    Raises:
        NotFoundError: there is none.
        InvalidInputError: it holds what no header can.
    """
    key = os.environ.get(variable, "").strip()
    if not key:
        raise NotFoundError(
            f"the environment has no variable {variable}, or it is empty", hint="set it, or mend --api-key-env"
        )
    hide(key)
    if not key.isascii() or not key.isprintable() or " " in key:
        raise InvalidInputError(
            f"the key in {variable} holds spaces, line breaks or letters that are not ASCII", hint="set it again"
        )
    return key


def ask(endpoint: Endpoint, image: LazyImage, prompt: str, max_new_tokens: int) -> str:
    """Return the caption of one image; busy servers are asked again, a few times, after a pause.

    Raises:
        Refused: the server does not take this image.
        OutputError: the server cannot be reached, refuses, or says something that is no answer.
    """
    body = json.dumps(_question(endpoint.model, image, prompt, max_new_tokens)).encode()
    headers = {"Content-Type": "application/json"}
    if endpoint.authorization:
        headers["Authorization"] = endpoint.authorization
    request = urllib.request.Request(endpoint.url, body, headers, method="POST")
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with _opener().open(request, timeout=TIMEOUT_S) as response:
                said = response.read(_ANSWER_BYTES)
        except urllib.error.HTTPError as error:
            with error:
                reason = f"{endpoint.url} answered {_reason(error)}"
            if error.code in _REFUSED:
                raise Refused(reason) from error
            if error.code not in _AGAIN or attempt == ATTEMPTS:
                raise OutputError(reason, hint=_KEPT) from error
            _pause(attempt, str(error.headers.get("Retry-After", "")) if error.headers else "")
        except (OSError, ValueError, http.client.HTTPException) as error:
            if attempt == ATTEMPTS:
                what = _line(str(error) or type(error).__name__)
                raise OutputError(f"{endpoint.url} cannot be reached: {what}", hint=_KEPT) from error
            _pause(attempt, "")
        else:
            return _caption(endpoint, said)
    raise AssertionError  # the last attempt returns or raises


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows nothing, so that the key goes to no other server."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_NoRedirect)


def _pause(attempt: int, asked: str) -> None:
    wait = float(asked) if _SECONDS.fullmatch(asked.strip()) else 2.0 ** (attempt - 1)
    time.sleep(min(wait, LONGEST_WAIT_S))


def _question(model: str, image: LazyImage, prompt: str, max_new_tokens: int) -> dict[str, Any]:
    buffer = io.BytesIO()
    image.open().convert("RGB").save(buffer, "PNG")
    encoded = base64.b64encode(buffer.getvalue()).decode()
    content = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{encoded}"}},
        {"type": "text", "text": prompt},
    ]
    messages = [{"role": "user", "content": content}]
    return {"model": model, "messages": messages, "max_tokens": max_new_tokens, "temperature": 0}


def _line(text: str) -> str:
    """Return the beginning of what a server said, as one line; a key is taken out before it could be cut in two."""
    return " ".join(redacted(text).split())[:_SHOWN]


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        said = error.read(_REASON_BYTES).decode("utf-8", "replace")
    except (OSError, ValueError, http.client.HTTPException):  # the answer ends before it should
        said = ""
    return _line(f"{error.code} {error.reason}: {said}")


def _caption(endpoint: Endpoint, body: bytes) -> str:
    try:
        said = json.loads(body)["choices"][0]["message"]["content"] or ""
        text = said if isinstance(said, str) else "".join(part.get("text", "") for part in said)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        start = _line(body[:_REASON_BYTES].decode("utf-8", "replace"))
        raise OutputError(f"{endpoint.url} sent no chat completion: {start!r}", hint=_KEPT) from error
    return text.strip()
